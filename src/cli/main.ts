#!/usr/bin/env node
import { Interruption } from "./interruption.ts";
import { reportLostAnswer, runCommandLine } from "./run-command-line.ts";
import { writeWholeOutput } from "./whole-output.ts";

const args = process.argv.slice(2);
let lost: NodeJS.ErrnoException | undefined;

writeWholeOutput();
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (lost !== undefined) return;
  lost = error;
  // Ends running work as a signal does. Without such work only output is left, and the process
  // ends.
  if (!Interruption.abortWork()) end();
});
// The exit code remains.
process.stderr.on("error", () => undefined);

await runCommandLine(args);
// Not left to the event loop: a call that is no longer awaited would keep the process alive.
process.stdout.write("", (error) => {
  lost ??= error ?? undefined;
  end();
});

function end(): void {
  // The reader of a pipe may end early (`… | head`), and does not want the rest.
  if (lost !== undefined && lost.code !== "EPIPE") reportLostAnswer(lost, args);
  process.exit();
}
