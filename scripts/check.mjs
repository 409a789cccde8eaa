import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { text } from "node:stream/consumers";
import { say } from "./commands.mjs";
import { PACKAGE_ROOT } from "./prepare.mjs";

// Runs all checks, one on each core at a time, and reports all that fail: `npm run check`. Each is
// a command of its own, such as `npm run lint`.

// Those that take long begin first.
const waiting = ["lint", "typecheck", "format", "pages", "layers", "unused"];
/** @type {string[]} */
const failed = [];

await Promise.all(Array.from({ length: availableParallelism() }, checkOneByOne));
if (failed.length > 0) {
  say(`These checks failed: ${failed.map((name) => `npm run ${name}`).join(", ")}`);
  process.exitCode = 1;
}

async function checkOneByOne() {
  for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) await check(name);
}

/** @param {string} name */
async function check(name) {
  const startedAtMs = performance.now();
  const child = spawn("npm", ["run", "--silent", name], {
    cwd: PACKAGE_ROOT,
    env: { ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : {}), ...process.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = new Promise((resolve) => {
    child.once("close", resolve);
    child.once("error", resolve);
  });
  const [out, errors, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  const seconds = Math.round((performance.now() - startedAtMs) / 1000);
  say(`${name}: ${code === 0 ? "passed" : "failed"} (${seconds} s)`);
  if (code === 0) return;
  failed.push(name);
  say(`${out}${errors}`.trimEnd());
}
