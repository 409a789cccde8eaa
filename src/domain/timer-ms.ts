// Node's own limit, about 25 days; a longer timer would fire at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The time that a timer of Node can wait, for a duration that a user chose. */
export function timerMs(durationMs: number): number {
  return Math.min(durationMs, LONGEST_TIMER_MS);
}
