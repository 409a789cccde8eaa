import { afterEach, describe, expect, it } from "vitest";
import { exitWith } from "../../src/cli/exit-code.ts";

const before = process.exitCode;
afterEach(() => {
  process.exitCode = before;
});

describe("exitWith()", () => {
  it.each([
    [["left", "waiting"], 6],
    [["waiting", "left"], 6],
    [["waiting", "succeeded"], 5],
    [["cancelled", "waiting", "accepted"], 5],
  ] as const)("lets the worst of the ends decide: %j", (ends, exitCode) => {
    for (const end of ends) exitWith(end);

    expect(process.exitCode).toBe(exitCode);
  });

  it.each(["succeeded", "accepted", "cancelled", "failed"] as const)(
    "leaves the exit code as it is for %s",
    (end) => {
      exitWith(end);

      expect(process.exitCode).toBe(before);
    },
  );
});
