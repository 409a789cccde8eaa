#!/usr/bin/env node
import { runCommandLine } from "./run-command-line.ts";

// Whoever reads our output may go away (`… | head`): the rest of it interests nobody.
process.stdout.on("error", endQuietly);
process.stderr.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});

await runCommandLine(process.argv.slice(2));
// Not left to the event loop: a call that nobody waits for any more would hold the process.
process.stdout.write("", () => process.exit());

function endQuietly(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
  process.exit();
}
