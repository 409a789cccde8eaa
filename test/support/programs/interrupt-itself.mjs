import { once } from "node:events";
import { Interruption } from "#dist/cli/interruption.js";

// Sends itself a signal some times, with an interruption that is disposed of or not, and prints
// whether that was aborted before and afterwards. The signal may end it.

const { signal, times, isDisposed } = JSON.parse(process.argv[2] ?? "");
const stay = setTimeout(() => process.stdout.write("no signal ended it"), 10_000);
const interruption = new Interruption();
const before = interruption.signal.aborted;
if (isDisposed) {
  interruption[Symbol.dispose]();
  process.kill(process.pid, signal);
} else {
  for (let i = 0; i < times; i += 1) await raise();
  process.stdout.write(JSON.stringify([before, interruption.signal.aborted]));
  clearTimeout(stay);
}

async function raise() {
  const raised = once(process, signal);
  process.kill(process.pid, signal);
  await raised;
}
