/** How long to wait before a broken stream is opened again. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/** How long to wait before an attempt, the first being number 0; `chance` from 0 to 1 keeps pages from coming at once. */
export function pauseBefore(attempt: number, chance: number): number {
  const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
  return most * (0.5 + chance / 2);
}
