/** Uploading what PEFT saved: two files by drag and drop, and what admission says of them. */
import { Link } from "@tanstack/react-router";
import { type FormEvent, useRef, useState } from "react";
import { ApiError, type Schemas } from "@/api/client";
import { type AdapterFiles, CONFIG, dropped, pick, WEIGHTS } from "@/lib/folder";
import { bytes } from "@/lib/format";
import { AdmissionReport } from "@/pages/report";
import { useMe } from "@/session";
import { Button, Empty, Failure, Field, Note, Page, Panel } from "@/ui/parts";
import { UploadProgress } from "@/upload/progress";
import { CANCELLED, cancel, type Progress, upload } from "@/upload/send";

type Version = Schemas["VersionOut"];

export function UploadPage() {
  const me = useMe();
  const [files, setFiles] = useState<AdapterFiles | null>(null);
  const [problem, setProblem] = useState("");
  const [over, setOver] = useState(false);
  const [name, setName] = useState("");
  const [alias, setAlias] = useState("");
  const [progress, setProgress] = useState<Progress | null>(null);
  const [paused, setPaused] = useState(false);
  const [refused, setRefused] = useState<Error | null>(null);
  const running = useRef<AbortController | null>(null);
  const opened = useRef<{ id: string; key: string } | null>(null);
  const [made, setMade] = useState<Version | null>(null);
  const input = useRef<HTMLInputElement>(null);

  const take = (found: { file: File; path: string }[]) => {
    if (progress !== null) return;
    const picked = pick(found);
    setMade(null);
    setRefused(null);
    setProblem(typeof picked === "string" ? picked : "");
    setFiles(typeof picked === "string" ? null : picked);
    if (typeof picked !== "string" && name === "") {
      setName(
        picked.folder
          .replace(/[^A-Za-z0-9._-]+/g, "-")
          .replace(/^[^A-Za-z0-9]+/, "")
          .slice(0, 63),
      );
    }
  };
  const start = async () => {
    if (files === null) return;
    const stop = new AbortController();
    running.current = stop;
    setRefused(null);
    setPaused(false);
    setProgress({ stage: "reading", bytes: 0 });
    try {
      const version = await upload({
        tenant: me.tenant,
        name,
        alias,
        files,
        signal: stop.signal,
        onProgress: (news) => {
          if (!stop.signal.aborted) setProgress(news);
        },
        onOpen: (id, key) => {
          opened.current = { id, key };
        },
      });
      opened.current = null;
      setMade(version);
      setFiles(null);
      setProgress(null);
    } catch (error) {
      if (stop.signal.aborted) return;
      setRefused(error as Error);
      setProgress(null);
    }
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    start();
  };
  const giveUp = async () => {
    running.current?.abort(CANCELLED);
    setProgress(null);
    setPaused(false);
    const known = opened.current;
    opened.current = null;
    if (known) await cancel(me.tenant, known.id, known.key).catch(setRefused);
  };

  if (!me.can("adapters:write")) {
    return (
      <Page title="Upload an adapter">
        <Empty title="Your role does not allow this">
          <p>Members and admins of the tenant upload adapters.</p>
        </Empty>
      </Page>
    );
  }
  return (
    <Page title="Upload an adapter" lead="A LoRA as PEFT's save_pretrained writes it.">
      <div className="grid gap-4 lg:grid-cols-[3fr_2fr]">
        <div className="flex min-w-0 flex-col gap-4">
          {/* biome-ignore lint/a11y/noStaticElementInteractions: the button inside does the same by keyboard */}
          <div
            data-testid="drop"
            className={`flex flex-col items-center gap-2 rounded-lg border-2 border-dashed px-4 py-10 text-center ${over ? "border-accent bg-accent-soft" : "border-line bg-panel"}`}
            onDragOver={(event) => {
              event.preventDefault();
              setOver(true);
            }}
            onDragLeave={() => setOver(false)}
            onDrop={async (event) => {
              event.preventDefault();
              setOver(false);
              take(await dropped(event.dataTransfer.items));
            }}
          >
            <p className="text-base font-semibold">Drop the folder here</p>
            <p className="text-muted">
              It holds <code>{CONFIG}</code> and <code>{WEIGHTS}</code>. Nothing else is sent.
            </p>
            <Button onClick={() => input.current?.click()}>Choose the two files</Button>
            <input
              ref={input}
              type="file"
              multiple
              hidden
              data-testid="files"
              onChange={(event) => {
                take([...(event.target.files ?? [])].map((file) => ({ file, path: file.name })));
                event.target.value = "";
              }}
            />
          </div>
          {problem && <Note tone="bad">{problem}</Note>}
          {files && (
            <ul className="panel divide-y divide-line tabular-nums">
              {[files.config, files.weights].map((file) => (
                <li key={file.name} className="flex justify-between px-4 py-2">
                  <code>{file.name}</code>
                  <span className="text-muted">{bytes(file.size)}</span>
                </li>
              ))}
            </ul>
          )}
          {refused instanceof ApiError && refused.code === "adapter_rejected" ? (
            <Panel title="This adapter cannot be served">
              <AdmissionReport
                report={{ message: refused.message, ...(refused.report as object) }}
              />
            </Panel>
          ) : (
            <Failure error={refused} />
          )}
          {made && (
            <Panel title={`${made.model} can be used now`}>
              <div className="flex flex-col gap-4">
                <AdmissionReport report={made.report} />
                <div className="flex gap-4">
                  <Link
                    to="/adapters/$name"
                    params={{ name: made.adapter }}
                    className="text-accent underline"
                  >
                    See the adapter
                  </Link>
                  {me.can("inference") && (
                    <Link
                      to="/playground"
                      search={{ model: made.model }}
                      className="text-accent underline"
                    >
                      Try it
                    </Link>
                  )}
                </div>
              </div>
            </Panel>
          )}
        </div>
        <form className="panel flex flex-col gap-4 self-start p-4" onSubmit={submit}>
          <Field label="Name" hint="A name that exists gets its next version.">
            {(id) => (
              <input
                id={id}
                required
                maxLength={63}
                disabled={progress !== null}
                className="field"
                value={name}
                onChange={(event) => setName(event.target.value)}
              />
            )}
          </Field>
          <Field label="Alias (optional)" hint="Such as prod: names the new version at once.">
            {(id) => (
              <input
                id={id}
                disabled={progress !== null}
                className="field"
                value={alias}
                onChange={(event) => setAlias(event.target.value)}
              />
            )}
          </Field>
          {progress !== null && files && (
            <UploadProgress
              progress={progress}
              size={files.weights.size}
              paused={paused}
              onPause={() => {
                running.current?.abort();
                setPaused(true);
              }}
              onResume={start}
              onCancel={giveUp}
            />
          )}
          <Button kind="primary" type="submit" disabled={files === null || progress !== null}>
            Upload
          </Button>
        </form>
      </div>
    </Page>
  );
}
