import { readFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { parseArgs } from "node:util";
import { say } from "../commands.mjs";
import { CASES } from "./cases.mjs";
import { openService } from "./service.mjs";

const USAGE = `Usage: npm run bench [-- [--quick] [--json] [--large] [--list] [--rounds N] [CASE…]]

Runs each case several times, in turns with its reference, and compares the medians. All cases, or those named.
`;

process.exitCode = await bench();

async function bench() {
  const { values, positionals, mistake } = readArguments();
  if (mistake !== undefined) {
    process.stderr.write(`${mistake}\n\n${USAGE}`);
    return 2;
  }
  if (values.list) {
    for (const { name, about } of CASES) process.stdout.write(`${name.padEnd(22)} ${about}\n`);
    return 0;
  }
  const chosen = CASES.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  const interruption = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"]) process.once(name, () => interruption.abort());
  const { signal } = interruption;
  try {
    const service = await openService(signal);
    const results = await measureAll(service, { chosen, values, signal });
    process.stdout.write(values.json ? `${JSON.stringify(results, null, 2)}\n` : table(results));
    return 0;
  } catch (error) {
    if (!signal.aborted) throw error;
    say("Interrupted");
    // The case that was broken off would go on with what is no longer there.
    process.exit(130);
  }
}

/** Ends the service also when it is broken off. */
async function measureAll(service, { chosen, values, signal }) {
  const interrupted = rejectionWhen(signal);
  const results = [];
  try {
    say(
      `${machine()}; load ${loadavg()[0].toFixed(2)} before; another file system: ${service.otherFileSystem}`,
    );
    for (const each of chosen) {
      say(`${each.name}: ${each.about} …`);
      const measured = await Promise.race([each.run(service, settingsOf(values)), interrupted]);
      // Told at once: whoever breaks the rest off has it.
      for (const one of measured) say(`  ${rowOf(one).join("  ")}`);
      results.push(...measured);
    }
    say(`load ${loadavg()[0].toFixed(2)} after; it counts what ran here besides, and this`);
  } finally {
    await service.close();
  }
  return results;
}

function rejectionWhen(signal) {
  const rejection = new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  // It may come when nobody waits for it.
  rejection.catch(() => undefined);
  return rejection;
}

function readArguments() {
  const flag = { type: "boolean", default: false };
  try {
    const { values, positionals } = parseArgs({
      options: { quick: flag, json: flag, large: flag, list: flag, rounds: { type: "string" } },
      allowPositionals: true,
    });
    const unknown = positionals.find((name) => !CASES.some((each) => each.name === name));
    if (unknown === undefined) return { values, positionals };
    const known = CASES.map((each) => each.name).join(", ");
    return { mistake: `There is no case "${unknown}"; there are ${known}` };
  } catch (error) {
    return { mistake: error.message };
  }
}

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

function table(results) {
  const rows = results.map(rowOf);
  const lines = [["CASE", "MEDIAN", "MIN", "MAX", "REFERENCE", "RATIO", "GOAL", ""], ...rows];
  const widths = lines[0].map((_, column) =>
    Math.max(...lines.map((cells) => cells[column].length)),
  );
  return lines
    .map(
      (cells) =>
        `${cells
          .map((cell, column) => cell.padEnd(widths[column]))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

function rowOf(each) {
  return [
    each.name,
    ...[each.median, each.min, each.max, each.reference].map((value) => number(value, each.unit)),
    each.ratio === null ? "-" : each.ratio.toFixed(2),
    each.goal === null ? "-" : `≤ ${each.goal}`,
    each.note ?? "",
  ];
}

function number(value, unit) {
  if (value === null) return "-";
  return `${value < 10 ? value.toFixed(3) : value.toFixed(1)} ${unit}`;
}
