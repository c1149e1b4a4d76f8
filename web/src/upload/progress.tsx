/** How far an upload has got, how fast it goes, and the buttons that stop it. */
import { useEffect, useRef } from "react";
import { bytes } from "@/lib/format";
import { Button } from "@/ui/parts";
import { pace } from "./plan";
import type { Progress } from "./send";

export function UploadProgress({
  progress,
  size,
  paused,
  onPause,
  onResume,
  onCancel,
}: {
  progress: Progress;
  size: number;
  paused: boolean;
  onPause: () => void;
  onResume: () => void;
  onCancel: () => void;
}) {
  const { stage } = progress;
  const since = useRef({ at: 0, bytes: 0 });
  // Waiting and reading do not count into the speed.
  // biome-ignore lint/correctness/useExhaustiveDependencies: it begins anew with the stage, not with each byte
  useEffect(() => {
    since.current = { at: performance.now(), bytes: progress.bytes };
  }, [stage, paused]);
  const { at, bytes: from } = since.current;
  const speed = pace(progress.bytes - from, performance.now() - at, size - progress.bytes);
  const share = Math.round((progress.bytes / size) * 100);
  const words = paused
    ? `Paused at ${share} %`
    : stage === "reading"
      ? `Reading the file, ${share} %`
      : stage === "waiting"
        ? `The connection broke off at ${share} %. Trying again…`
        : stage === "checking"
          ? "Sent. Checking every tensor…"
          : `${share} % sent${speed ? `, ${bytes(speed.rate)}/s, ${Math.ceil(speed.seconds)} s left` : ""}`;
  return (
    <div className="flex flex-col gap-2">
      <progress
        aria-label="Upload"
        className="h-2 w-full accent-accent"
        value={progress.bytes}
        max={size}
      />
      <span role="status" className="text-xs text-muted tabular-nums">
        {words}
      </span>
      {stage !== "checking" && (
        <div className="flex gap-2">
          <Button onClick={paused ? onResume : onPause}>{paused ? "Resume" : "Pause"}</Button>
          <Button onClick={onCancel}>Cancel</Button>
        </div>
      )}
    </div>
  );
}
