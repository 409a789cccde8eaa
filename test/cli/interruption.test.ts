import { describe, expect, it } from "vitest";
import { runProgram, type ProgramResult } from "../support/child-program.ts";

interface Signals {
  readonly signal: string;
  readonly times?: number;
  readonly isDisposed?: boolean;
}

/** Sends signals to a process of its own: one may end it. */
async function interrupt({
  signal,
  times = 1,
  isDisposed = false,
}: Signals): Promise<ProgramResult> {
  const settings = JSON.stringify({ signal, times, isDisposed });
  return runProgram("interrupt-itself.mjs", { arguments: [settings] });
}

describe("Interruption", () => {
  it.each(["SIGINT", "SIGTERM", "SIGHUP"])(
    "turns %s into an abort, and does not end the process",
    async (signal) => {
      const result = await interrupt({ signal });

      expect(result).toEqual({ exitCode: 0, stdout: "[false,true]", stderr: "" });
    },
  );

  it("ends the process at the second signal", async () => {
    const result = await interrupt({ signal: "SIGINT", times: 2 });

    expect(result).toEqual({ exitCode: 1, stdout: "", stderr: "" });
  });

  it("lets signals have their ordinary effect once it is disposed of", async () => {
    const result = await interrupt({ signal: "SIGINT", isDisposed: true });

    // Null: a signal ended it.
    expect(result).toEqual({ exitCode: null, stdout: "", stderr: "" });
  });
});
