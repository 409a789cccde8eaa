import { once } from "node:events";
import { readFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { say } from "../commands.mjs";
import { messageOf } from "../thrown-error.mjs";
import { CASES } from "./cases.mjs";
import { openService } from "./service.mjs";

const USAGE = `Usage: npm run bench [-- [--quick] [--json] [--large] [--list] [--rounds N] [CASE…]]

Runs each case several times, in turns with its reference, and compares the medians. All cases, or those named.
`;

/** @typedef {import("./measure.mjs").Result} Result */

process.exitCode = await bench();

async function bench() {
  const given = readArguments();
  if (given.mistake !== undefined) {
    process.stderr.write(`${given.mistake}\n\n${USAGE}`);
    return 2;
  }
  const { values, positionals } = given;
  if (values.list) {
    for (const { name, about } of CASES) process.stdout.write(`${name.padEnd(22)} ${about}\n`);
    return 0;
  }
  const chosen = CASES.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  const interruption = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"]) {
    process.once(name, () => {
      interruption.abort();
    });
  }
  const { signal } = interruption;
  try {
    const service = await openService(signal);
    const results = await measureAll(service, { chosen, values, signal });
    process.stdout.write(values.json ? `${JSON.stringify(results, null, 2)}\n` : table(results));
    return 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    say("Interrupted");
    // The interrupted case would continue without its servers.
    process.exit(130);
  }
}

/**
 * Runs the chosen cases. Ends the service also if they are interrupted.
 *
 * @param {import("./service.mjs").Service} service
 * @param {{ chosen: typeof CASES, values: Values, signal: AbortSignal }} options
 */
async function measureAll(service, { chosen, values, signal }) {
  const interrupted = rejectionWhen(signal);
  // No unhandled rejection if the signal aborts between two cases.
  interrupted.catch(() => undefined);
  /** @type {Result[]} */
  const results = [];
  try {
    say(`${machine()}; load ${load()} before; another file system: ${service.otherFileSystem}`);
    for (const each of chosen) {
      say(`${each.name}: ${each.about} …`);
      const measured = await Promise.race([each.run(service, settingsOf(values)), interrupted]);
      // Reported at once, for a user who interrupts the other cases.
      for (const one of measured) say(`  ${rowOf(one).join("  ")}`);
      results.push(...measured);
    }
    say(`load ${load()} after; this run counts in it, and everything else that runs here`);
  } finally {
    await service.close();
  }
  return results;
}

/** @param {AbortSignal} signal @returns {Promise<never>} rejects when the signal aborts */
async function rejectionWhen(signal) {
  if (!signal.aborted) await once(signal, "abort");
  throw signal.reason;
}

/**
 * @typedef {{ quick: boolean, json: boolean, large: boolean, list: boolean, rounds?: string |
 *   undefined }} Values
 */

/**
 * @returns {{ values: Values, positionals: string[], mistake?: undefined } | { mistake: string }}
 */
function readArguments() {
  const flag = /** @type {const} */ ({ type: "boolean", default: false });
  try {
    const { values, positionals } = parseArgs({
      options: { quick: flag, json: flag, large: flag, list: flag, rounds: { type: "string" } },
      allowPositionals: true,
    });
    const unknown = positionals.find((name) => !CASES.some((each) => each.name === name));
    if (unknown === undefined) return { values, positionals };
    const known = CASES.map((each) => each.name).join(", ");
    return { mistake: `Cannot run the case "${unknown}": there are ${known}` };
  } catch (error) {
    return { mistake: messageOf(error) };
  }
}

/** @param {Values} values @returns {import("./cases.mjs").Settings} */
function settingsOf({ quick, large, rounds }) {
  return {
    isQuick: quick,
    isLarge: large,
    ...(rounds === undefined ? {} : { rounds: Math.max(1, Number.parseInt(rounds, 10) || 1) }),
  };
}

function machine() {
  const model = cpus()[0]?.model ?? "unknown";
  const kernel = readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
  const memory = Math.round(totalmem() / 1024 ** 3);
  return `${cpus().length} × ${model}, ${memory} GiB, Linux ${kernel}, Node ${process.version}`;
}

function load() {
  return (loadavg()[0] ?? 0).toFixed(2);
}

/** @param {readonly Result[]} results */
function table(results) {
  const rows = results.map(rowOf);
  const lines = [["CASE", "MEDIAN", "MIN", "MAX", "REFERENCE", "RATIO", "GOAL", ""], ...rows];
  const widths = (lines[0] ?? []).map((_, column) =>
    Math.max(...lines.map((cells) => cells[column]?.length ?? 0)),
  );
  return lines
    .map(
      (cells) =>
        `${cells
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** @param {Result} each */
function rowOf(each) {
  return [
    each.name,
    ...[each.median, each.min, each.max, each.reference].map((value) => number(value, each.unit)),
    each.ratio === null ? "-" : each.ratio.toFixed(2),
    each.goal === null ? "-" : `≤ ${each.goal}`,
    each.note ?? "",
  ];
}

/** @param {number | null} value @param {string} unit */
function number(value, unit) {
  if (value === null) return "-";
  return `${value < 10 ? value.toFixed(3) : value.toFixed(1)} ${unit}`;
}
