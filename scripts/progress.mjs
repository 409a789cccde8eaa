import { say } from "./commands.mjs";

// After about 3 s a user wonders if anything still happens.
const FIRST_LINE_AFTER_MS = 3_000;
const LONGEST_PAUSE_MS = 60_000;

/**
 * Runs `work` to its end. While it lasts, stderr gets a line such as
 * `… installing dependencies (3 s)`: the first after 3 s, then each after twice the pause before,
 * one minute at most.
 *
 * @template Result
 * @param {string} what - the work in words, as in "installing dependencies"
 * @param {() => Result | Promise<Result>} work - called once
 * @returns {Promise<Result>}
 */
export async function whileSaying(what, work) {
  const startedAtMs = Date.now();
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const sayAfter = (/** @type {number} */ pauseMs) => {
    timer = setTimeout(() => {
      say(`… ${what} (${elapsed(startedAtMs)})`);
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

/** @param {number} startedAtMs */
function elapsed(startedAtMs) {
  const seconds = Math.round((Date.now() - startedAtMs) / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
