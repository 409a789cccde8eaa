import { say } from "./commands.mjs";

// A person wonders after about 3 s whether anything still happens.
const FIRST_LINE_AFTER_MS = 3_000;
const LONGEST_PAUSE_MS = 60_000;

/**
 * Runs `work` to its end. While it lasts, stderr gets a line such as `… installing dependencies (3 s)`: the first after
 * 3 s, then each after twice the pause before, one minute at most.
 *
 * @param what - what happens, as in "installing dependencies"
 * @param work - called once
 */
export async function whileSaying(what, work) {
  const startedAtMs = Date.now();
  let timer;
  const sayAfter = (pauseMs) => {
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

function elapsed(startedAtMs) {
  const seconds = Math.round((Date.now() - startedAtMs) / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
