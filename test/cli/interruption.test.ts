import { describe, expect, it } from "vitest";
import { runProgram } from "../support/child-program.ts";

// A signal may end the process. Each test runs this program in a child process.
const PROGRAM = `
  const { once } = await import("node:events");
  const { Interruption } = await import("./dist/cli/interruption.js");
  const [signal] = process.argv.slice(1);
  const stay = setTimeout(() => process.stdout.write("no signal ended it"), 10_000);
  const interruption = new Interruption();
  const raise = async () => {
    const raised = once(process, signal);
    process.kill(process.pid, signal);
    await raised;
  };`;

describe("Interruption", () => {
  it.each(["SIGINT", "SIGTERM", "SIGHUP"])(
    "turns %s into an abort, and does not end the process",
    async (signal) => {
      const lines = `${PROGRAM}
        const before = interruption.signal.aborted;
        await raise();
        process.stdout.write(JSON.stringify([before, interruption.signal.aborted]));
        clearTimeout(stay);`;

      const result = await runProgram(lines, { arguments: [signal] });

      expect(result).toEqual({ exitCode: 0, stdout: "[false,true]", stderr: "" });
    },
  );

  it("ends the process at the second signal", async () => {
    const lines = `${PROGRAM}
      await raise();
      await raise();`;

    const result = await runProgram(lines, { arguments: ["SIGINT"] });

    expect(result).toEqual({ exitCode: 1, stdout: "", stderr: "" });
  });

  it("lets signals have their ordinary effect once it is disposed of", async () => {
    const lines = `${PROGRAM}
      interruption[Symbol.dispose]();
      process.kill(process.pid, signal);`;

    const result = await runProgram(lines, { arguments: ["SIGINT"] });

    // Null: a signal ended it.
    expect(result).toEqual({ exitCode: null, stdout: "", stderr: "" });
  });
});
