import { execFileSync } from "node:child_process";
import { openSync } from "node:fs";
import { hasErrorCode } from "#dist/bytes/system-error.js";
import { startLimited } from "#dist/transforms/limited-program.js";

// Starts a limited program when this process may open no more files, and prints the failure. It
// limits itself first: the system may allow a million files.

const { command, args, limits } = JSON.parse(process.argv[2] ?? "");
const { signal } = new AbortController();
const program = { command, arguments: args, limits, signal };
const { ended } = await startLimited(program);
await ended;
execFileSync("prlimit", [`--pid=${process.pid}`, "--nofile=256"]);
try {
  for (;;) openSync("/dev/null", "r");
} catch (error) {
  if (!hasErrorCode(error, "EMFILE")) throw error;
}
const failure = await startLimited(program).catch((/** @type {unknown} */ error) => error);
const { code, message } = /** @type {Error & { readonly code?: unknown }} */ (failure);
process.stdout.write(JSON.stringify({ code, message }));
