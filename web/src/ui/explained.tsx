/** A question mark that says how a number is computed, to whoever points at it or tabs to it. */
import { useId } from "react";

export function Explained({ label, text }: { label: string; text: string }) {
  const id = useId();
  return (
    <span className="group relative inline-flex">
      <button
        type="button"
        aria-label={`About ${label}`}
        aria-describedby={id}
        className="inline-flex size-4 items-center justify-center rounded-full border border-line text-2xs leading-none text-muted"
      >
        ?
      </button>
      <span
        id={id}
        role="tooltip"
        className="pointer-events-none invisible absolute top-full left-1/2 z-10 mt-1 w-56 -translate-x-1/2 rounded-md border border-line bg-panel p-2 text-xs font-normal whitespace-normal text-ink shadow-lg group-focus-within:visible group-hover:visible"
      >
        {text}
      </span>
    </span>
  );
}
