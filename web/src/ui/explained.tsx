/** A question mark that says how a number is computed, to whoever points at it or tabs to it. It opens over the
 * nearest part of the page that is `relative`, so that it never widens the page. */
import { useId } from "react";

export function Explained({ label, text }: { label: string; text: string }) {
  const id = useId();
  return (
    <span className="group inline-flex">
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
        className="pointer-events-none absolute inset-x-2 top-9 z-10 hidden rounded-md border border-line bg-panel p-2 text-xs font-normal whitespace-normal text-ink shadow-lg group-focus-within:block group-hover:block"
      >
        {text}
      </span>
    </span>
  );
}
