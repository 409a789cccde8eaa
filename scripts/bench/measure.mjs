import { performance } from "node:perf_hooks";

/** Runs some work and returns the seconds that it took. @param {() => Promise<unknown>} work */
export async function secondsOf(work) {
  const startedAtMs = performance.now();
  await work();
  return (performance.now() - startedAtMs) / 1000;
}

/**
 * @typedef {object} Times - in seconds
 * @property {number[]} measured
 * @property {number[]} [references]
 */

/**
 * Runs the work and its reference in turns, so that other work of the machine slows both.
 *
 * @param {number} rounds
 * @param {() => Promise<number>} work
 * @param {() => Promise<number>} reference
 */
export async function inTurns(rounds, work, reference) {
  /** @type {number[]} */
  const measured = [];
  /** @type {number[]} */
  const references = [];
  for (let round = 0; round < rounds; round += 1) {
    references.push(await reference());
    measured.push(await work());
  }
  return { measured, references };
}

/** @typedef {ReturnType<typeof result>} Result */

/**
 * One line of the result.
 *
 * @param {string} name
 * @param {Times} times
 * @param {{ goal?: number | null, unit?: string, note?: string | undefined }} options
 */
export function result(name, { measured, references }, options = {}) {
  const { goal = null, unit = "s", note } = options;
  const reference = references === undefined ? null : median(references);
  return {
    name,
    unit,
    median: median(measured),
    min: Math.min(...measured),
    max: Math.max(...measured),
    reference,
    ratio: reference === null ? null : median(measured) / reference,
    goal,
    ...(note === undefined ? {} : { note }),
  };
}

/**
 * The middle value; of an even number of values, the mean of the two in the middle.
 *
 * @param {readonly number[]} values
 */
export function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  const at = (/** @type {number} */ index) => sorted[index] ?? Number.NaN;
  return (at(Math.floor((sorted.length - 1) / 2)) + at(Math.floor(sorted.length / 2))) / 2;
}
