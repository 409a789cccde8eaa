import { describe, expect, it } from "vitest";
import { whileUnreachable } from "../../src/client/while-unreachable.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { failureOf } from "../support/failure-of.ts";

const { signal } = new AbortController();

/** Work that fails with one of these codes at each call, and then succeeds. */
function failing(...codes: readonly ImportError["code"][]): () => Promise<string> {
  const left = [...codes];
  return async () => {
    const code = left.shift();
    if (code !== undefined) throw new ImportError(code, "no answer");
    return "done";
  };
}

describe("whileUnreachable()", () => {
  it("repeats the work until it succeeds, and reports the wait once", async () => {
    let waits = 0;
    const onWait = (): void => {
      waits += 1;
    };

    const work = failing("TemporalUnavailable", "TemporalUnavailable");
    const result = await whileUnreachable(work, { codes: ["TemporalUnavailable"], signal, onWait });

    expect({ result, waits }).toEqual({ result: "done", waits: 1 });
  });

  it("fails at once with any other failure", async () => {
    const work = failing("ImageNotFound");

    const failure = await failureOf(
      whileUnreachable(work, { codes: ["TemporalUnavailable"], signal }),
    );

    expect(failure).toMatchObject({ code: "ImageNotFound" });
  });

  it("gives up after the limit", async () => {
    const work = failing("DatabaseUnavailable", "DatabaseUnavailable", "DatabaseUnavailable");

    const options = { codes: ["DatabaseUnavailable"], giveUpAfterMs: 500, signal } as const;
    const failure = await failureOf(whileUnreachable(work, options));

    expect(failure).toMatchObject({ code: "DatabaseUnavailable" });
  });

  it("throws the reason of the signal when it is aborted during a wait", async () => {
    const leave = new AbortController();
    const reason = new Error("the user left");

    const waiting = whileUnreachable(failing("TemporalUnavailable"), {
      codes: ["TemporalUnavailable"],
      signal: leave.signal,
      onWait: () => {
        leave.abort(reason);
      },
    });

    await expect(waiting).rejects.toBe(reason);
  });
});
