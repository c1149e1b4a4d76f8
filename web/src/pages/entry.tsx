/** The frame of pages for those who are not signed in. */
import type { ReactNode } from "react";
import { Mark } from "@/shell";

export function Entry({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="flex min-h-dvh flex-col items-center justify-center gap-5 p-4">
      <div className="flex items-center gap-2 text-base font-semibold tracking-tight">
        <Mark />
        loraplex
      </div>
      <div className="panel flex w-full max-w-sm flex-col gap-4 p-6">
        <h1>{title}</h1>
        {children}
      </div>
    </main>
  );
}
