/** The small set of parts all pages are made of. */
import type { ButtonHTMLAttributes, ReactNode } from "react";
import { useEffect, useId, useRef, useState } from "react";

type Kind = "primary" | "plain" | "danger";
const KINDS: Record<Kind, string> = {
  primary: "bg-accent text-accent-ink border-accent hover:brightness-110",
  plain: "bg-panel text-ink border-line hover:bg-raised",
  danger: "bg-panel text-bad border-line hover:bg-bad-soft",
};

export function Button({
  kind = "plain",
  className = "",
  ...rest
}: ButtonHTMLAttributes<HTMLButtonElement> & { kind?: Kind }) {
  return (
    <button
      type="button"
      className={`inline-flex items-center justify-center gap-1.5 rounded-md border px-3 py-1.5 font-medium whitespace-nowrap disabled:cursor-not-allowed disabled:opacity-50 ${KINDS[kind]} ${className}`}
      {...rest}
    />
  );
}

export function Page({
  title,
  lead,
  actions,
  children,
}: {
  title: ReactNode;
  lead?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}) {
  return (
    <div className="mx-auto flex w-full max-w-6xl flex-col gap-4">
      <header className="flex flex-wrap items-start justify-between gap-3">
        <div className="min-w-0">
          <h1 className="break-words">{title}</h1>
          {lead && <p className="mt-0.5 text-muted">{lead}</p>}
        </div>
        {actions && <div className="flex flex-wrap gap-2">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

export function Panel({
  title,
  note,
  children,
  flush = false,
}: {
  title?: ReactNode;
  note?: ReactNode;
  children: ReactNode;
  flush?: boolean;
}) {
  return (
    <section className="panel min-w-0">
      {title && (
        <div className="flex flex-wrap items-baseline justify-between gap-x-4 gap-y-1 border-b border-line px-4 py-2.5">
          <h2>{title}</h2>
          {note && <div className="text-xs text-muted">{note}</div>}
        </div>
      )}
      {flush ? (
        // biome-ignore lint/a11y/useSemanticElements: a table that may scroll sideways is no form
        <div
          role="group"
          aria-label={typeof title === "string" ? title : "Table"}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          tabIndex={0}
          className="overflow-x-auto"
        >
          {children}
        </div>
      ) : (
        <div className="p-4">{children}</div>
      )}
    </section>
  );
}

type Tone = "neutral" | "accent" | "good" | "warn" | "bad";
const TONES: Record<Tone, string> = {
  neutral: "bg-raised text-muted",
  accent: "bg-accent-soft text-accent",
  good: "bg-raised text-good",
  warn: "bg-warn-soft text-warn",
  bad: "bg-bad-soft text-bad",
};

export function Badge({ tone = "neutral", children }: { tone?: Tone; children: ReactNode }) {
  return (
    <span
      className={`inline-flex items-center rounded px-1.5 py-0.5 text-xs font-medium whitespace-nowrap ${TONES[tone]}`}
    >
      {children}
    </span>
  );
}

export function Note({ tone, children }: { tone: "bad" | "warn" | "accent"; children: ReactNode }) {
  return (
    <div
      role={tone === "bad" ? "alert" : "status"}
      className={`rounded-md px-3 py-2 ${TONES[tone]}`}
    >
      {children}
    </div>
  );
}

export function Failure({ error }: { error: unknown }) {
  if (!error) return null;
  return <Note tone="bad">{error instanceof Error ? error.message : String(error)}</Note>;
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="mx-auto flex max-w-xl flex-col items-center gap-2 px-4 py-12 text-center">
      <p className="text-base font-semibold">{title}</p>
      <div className="flex flex-col items-center gap-3 text-muted">{children}</div>
    </div>
  );
}

/** Stands where rows will be, in their height, so that nothing jumps. */
export function Waiting({ rows = 4 }: { rows?: number }) {
  return (
    <div role="status" aria-label="Loading" className="flex animate-pulse flex-col gap-3 p-4">
      {Array.from({ length: rows }, (_, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: they are all alike
        <div key={i} className="h-4 rounded bg-raised" />
      ))}
    </div>
  );
}

export function Field({
  label,
  hint,
  children,
}: {
  label: string;
  hint?: ReactNode;
  children: (id: string) => ReactNode;
}) {
  const id = useId();
  return (
    <div className="flex min-w-0 flex-col gap-1">
      <label htmlFor={id} className="text-sm font-medium">
        {label}
      </label>
      {children(id)}
      {hint && <p className="text-xs text-muted">{hint}</p>}
    </div>
  );
}

/** The browser's own dialog: it keeps the focus, and Escape closes it. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal();
  }, []);
  return (
    <dialog
      ref={ref}
      aria-labelledby={id}
      onClose={onClose}
      className="panel m-auto w-[min(32rem,calc(100vw-2rem))] p-0 text-ink shadow-xl"
    >
      <div className="flex flex-col gap-4 p-5">
        <h2 id={id} className="text-base">
          {title}
        </h2>
        {children}
      </div>
    </dialog>
  );
}

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <Button onClick={() => navigator.clipboard.writeText(text).then(() => setCopied(true))}>
      {copied ? "Copied" : label}
    </Button>
  );
}

export function Code({ text }: { text: string }) {
  return (
    <pre
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
      className="w-full overflow-x-auto rounded-md border border-line bg-raised p-3 text-left text-xs leading-relaxed text-ink"
    >
      {text}
    </pre>
  );
}

export function Figure({ label, value, unit }: { label: string; value: ReactNode; unit?: string }) {
  return (
    <div className="panel min-w-0 px-4 py-3">
      <div className="truncate text-xs text-muted">{label}</div>
      <div className="mt-0.5 text-xl font-semibold tracking-tight tabular-nums">
        {value}
        {unit && <span className="ml-1 text-xs font-normal text-muted">{unit}</span>}
      </div>
    </div>
  );
}
