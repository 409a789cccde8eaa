import { spawn } from "node:child_process";
import { join } from "node:path";
import { say } from "./commands.mjs";
import { PACKAGE_ROOT } from "./prepare.mjs";

// Runs the tests on another release of Node, which npx downloads once: `npm run test:node -- 22`.
// Further arguments are those of `npm test`.

const [release = "", ...args] = process.argv.slice(2);
if (!/^\d+(\.\d+){0,2}$/.test(release)) {
  say(`Cannot run the tests on Node "${release}": name a release, such as 22 or 24.1.0`);
  process.exit(2);
}

const test = join(PACKAGE_ROOT, "scripts/test.mjs");
const npx = ["--yes", `--package=node@${release}`, "--", "node", test, ...args];
const child = spawn("npx", npx, { cwd: PACKAGE_ROOT, stdio: "inherit" });
// The terminal's Ctrl-C reaches the tests too, which then end.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", () => {
  child.kill("SIGTERM");
});
child.on("error", (error) => {
  say(`Cannot run npx: ${error.message}`);
  process.exitCode = 1;
});
child.on("exit", (code) => {
  process.exitCode = code ?? 1;
});
