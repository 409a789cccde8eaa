import { formatDuration } from "../domain/duration.ts";

// A person wonders after about 3 s whether anything still happens.
const FIRST_LINE_AFTER_MS = 3_000;
const LONGEST_PAUSE_MS = 60_000;

/**
 * Runs `work` to its end. While it lasts, `log` gets a line such as `… starting postgres (3.0 s)`:
 * the first after 3 s, then each after twice the pause before, one minute at most.
 *
 * @param log - takes one line for the person who waits
 * @param what - what happens, as in "starting postgres"; a function is asked for each line
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
