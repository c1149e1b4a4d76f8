/** Cuts a file into parts, and tells how fast they go. */
const LEAST_PART = 256 * 1024;
const MOST_PART = 8 * 1024 * 1024;
/** A broken connection costs at most one part, and the bar of a small file still moves. */
const PARTS = 16;
const LONGEST_WAIT = 30_000;

/** Bytes of one part of a file. */
export function partSize(size: number): number {
  return Math.min(MOST_PART, Math.max(LEAST_PART, Math.ceil(size / PARTS)));
}

/** The part that follows `received` bytes, `end` exclusive; null if all are there. */
export function nextPart(received: number, size: number): { start: number; end: number } | null {
  if (received >= size) return null;
  return { start: received, end: Math.min(size, received + partSize(size)) };
}

export function contentRange({ start, end }: { start: number; end: number }, size: number): string {
  return `bytes ${start}-${end - 1}/${size}`;
}

/** Milliseconds before the next try, after so many failures in a row. */
export function backOff(failures: number): number {
  return Math.min(LONGEST_WAIT, 500 * 2 ** failures);
}

/** Bytes per second since sending began here, and seconds left; null while nothing has been sent. */
export function pace(
  sent: number,
  milliseconds: number,
  left: number,
): { rate: number; seconds: number } | null {
  if (sent <= 0 || milliseconds <= 0) return null;
  const rate = (sent / milliseconds) * 1000;
  return { rate, seconds: left / rate };
}
