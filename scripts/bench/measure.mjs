import { performance } from "node:perf_hooks";

/** How long some work takes, in seconds. */
export async function secondsOf(work) {
  const startedAtMs = performance.now();
  await work();
  return (performance.now() - startedAtMs) / 1000;
}

/** Runs the work and its reference in turns: what else the machine does then hits both. */
export async function inTurns(rounds, work, reference) {
  const measured = [];
  const references = [];
  for (let round = 0; round < rounds; round += 1) {
    references.push(await reference());
    measured.push(await work());
  }
  return { measured, references };
}

/** One line of the result. */
export function result(name, { measured, references }, { goal = null, unit = "s", note } = {}) {
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

/** The middle value; of an even number, the mean of the two in the middle. */
export function median(values) {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? sorted[Math.floor(middle)]
    : (sorted[middle - 1] + sorted[middle]) / 2;
}
