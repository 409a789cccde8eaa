import { formatDuration } from "../domain/duration.ts";

// After about 3 s a user wonders if anything still happens.
const FIRST_LINE_AFTER_MS = 3_000;
const LONGEST_PAUSE_MS = 60_000;

/**
 * Runs `work` to its end. While it lasts, `log` gets a line such as `… starting postgres (3.0 s)`:
 * the first after 3 s, then each after twice the pause before, one minute at most.
 *
 * @param log - prints one line for the user
 * @param what - the work in words, as in "starting postgres"; a function is called for each line
 */
export async function whileSaying<Result>(
  log: (line: string) => void,
  what: string | (() => string),
  work: () => Promise<Result>,
): Promise<Result> {
  const startedAtMs = Date.now();
  let timer: NodeJS.Timeout | undefined;
  const sayAfter = (pauseMs: number): void => {
    timer = setTimeout(() => {
      const text = typeof what === "string" ? what : what();
      log(`… ${text} (${formatDuration(Date.now() - startedAtMs)})`);
      sayAfter(Math.min(pauseMs * 2, LONGEST_PAUSE_MS));
    }, pauseMs);
  };
  sayAfter(FIRST_LINE_AFTER_MS);
  try {
    return await work();
  } finally {
    clearTimeout(timer);
  }
}
