import { beforeEach, describe, expect, it, vi } from "vitest";
import { watchAll } from "../../src/cli/watch-all.ts";
import type { ImageImportClient } from "../../src/client/image-import-client.ts";
import type { ImportStatus } from "../../src/workflow/contract.ts";
import { importIn } from "../support/shown-states.ts";

beforeEach(() => {
  vi.useFakeTimers();
  return () => {
    vi.useRealTimers();
  };
});

/** A service with one import, which answers as often as it should. */
function serviceOf(answers: readonly (ImportStatus | Error)[]): ImageImportClient {
  const left = [...answers];
  const imports = {
    running: () => Promise.resolve([{ image_id: "image", name: null, run_id: "run" }]),
    async *watch(): AsyncGenerator<ImportStatus> {
      const answer = left.shift() ?? new Error("It is asked too often");
      if (answer instanceof Error) throw answer;
      yield await Promise.resolve(answer);
    },
  };
  return { imports } as unknown as ImageImportClient;
}

describe("watchAll()", () => {
  it("follows an import again after a failure, which it names once, and no import twice", async () => {
    const away = new Error("Temporal does not answer");
    const client = serviceOf([away, away, importIn({})]);
    const seen: string[] = [];
    const leaving = new AbortController();

    const watching = watchAll(client, {
      observerOf: () => ({
        status: ({ phase }) => seen.push(phase),
        note: (text) => seen.push(text),
      }),
      onIdle: () => seen.push("idle"),
      signal: leaving.signal,
    });
    await vi.advanceTimersByTimeAsync(60_000);
    leaving.abort();
    await watching;

    expect(seen).toEqual(["Temporal does not answer", importIn({}).phase]);
  });
});
