import { beforeEach, describe, expect, it, vi } from "vitest";
import { EventLines } from "../../src/cli/event-lines.ts";
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
    report: () => Promise.resolve({ state: "succeeded" }),
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
    const seen: unknown[] = [];
    const write = (line: string): void => {
      const { event, message } = JSON.parse(line) as Record<string, unknown>;
      if (event !== "phase") seen.push(message ?? event);
    };
    const leaving = new AbortController();

    const watching = watchAll(client, {
      displayOf: () => new EventLines({ write }, false),
      onIdle: () => seen.push("idle"),
      signal: leaving.signal,
    });
    await vi.advanceTimersByTimeAsync(60_000);
    leaving.abort();
    await watching;

    expect(seen).toEqual(["Temporal does not answer", "succeeded", "succeeded"]);
  });
});
