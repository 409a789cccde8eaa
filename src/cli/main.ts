#!/usr/bin/env node
import { runCommandLine } from "./run-command-line.ts";

// The reader of a pipe may end early (`… | head`); the rest of the output is not needed.
process.stdout.on("error", endQuietly);
process.stderr.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});

await runCommandLine(process.argv.slice(2));
// Not left to the event loop: a call that is no longer awaited would keep the process alive.
process.stdout.write("", () => process.exit());

function endQuietly(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
  process.exit();
}
