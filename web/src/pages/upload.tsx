/** Uploading what PEFT saved: two files by drag and drop, and what admission says of them. */
import { Link } from "@tanstack/react-router";
import { type FormEvent, useRef, useState } from "react";
import { type ApiError, errorOf, type Schemas, tokenHeader } from "@/api/client";
import { type AdapterFiles, CONFIG, dropped, pick, WEIGHTS } from "@/lib/folder";
import { bytes } from "@/lib/format";
import { AdmissionReport } from "@/pages/report";
import { useMe } from "@/session";
import { Button, Empty, Failure, Field, Note, Page, Panel } from "@/ui/parts";

type Version = Schemas["VersionOut"];

/** Sends a form. Fetch cannot tell how far an upload has got, XMLHttpRequest can. */
function send(url: string, form: FormData, onProgress: (share: number) => void): Promise<Version> {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    for (const [name, value] of Object.entries(tokenHeader()))
      request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onProgress(total > 0 ? loaded / total : 0);
    request.onerror = () => failed(errorOf(0, { detail: "The connection broke off. Try again." }));
    request.onload = () => {
      let body: unknown = null;
      try {
        body = JSON.parse(request.responseText);
      } catch {}
      if (request.status < 300) done(body as Version);
      else failed(errorOf(request.status, body));
    };
    request.send(form);
  });
}

export function UploadPage() {
  const me = useMe();
  const [files, setFiles] = useState<AdapterFiles | null>(null);
  const [problem, setProblem] = useState("");
  const [over, setOver] = useState(false);
  const [name, setName] = useState("");
  const [alias, setAlias] = useState("");
  const [share, setShare] = useState<number | null>(null);
  const [refused, setRefused] = useState<ApiError | null>(null);
  const [made, setMade] = useState<Version | null>(null);
  const input = useRef<HTMLInputElement>(null);

  const take = (found: { file: File; path: string }[]) => {
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
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (files === null) return;
    const form = new FormData();
    form.set("name", name);
    if (alias) form.set("alias", alias);
    form.set("config", files.config, CONFIG);
    form.set("weights", files.weights, WEIGHTS);
    setRefused(null);
    setShare(0);
    try {
      const url = `/api/v1/adapters?tenant=${encodeURIComponent(me.tenant)}`;
      setMade(await send(url, form, setShare));
      setFiles(null);
    } catch (error) {
      setRefused(error as ApiError);
    } finally {
      setShare(null);
    }
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
          {refused && refused.code === "adapter_rejected" ? (
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
                className="field"
                value={alias}
                onChange={(event) => setAlias(event.target.value)}
              />
            )}
          </Field>
          {share !== null && (
            <div className="flex flex-col gap-1">
              <progress
                aria-label="Upload"
                className="h-2 w-full accent-accent"
                value={share}
                max={1}
              />
              <span className="text-xs text-muted tabular-nums">
                {share < 1 ? `${Math.round(share * 100)} % sent` : "Sent. Checking every tensor…"}
              </span>
            </div>
          )}
          <Button kind="primary" type="submit" disabled={files === null || share !== null}>
            Upload
          </Button>
        </form>
      </div>
    </Page>
  );
}
