import { beforeEach, describe, expect, it, vi } from "vitest";
import { EventLines } from "../../src/cli/event-lines.ts";
import { watchAll } from "../../src/cli/watch-all.ts";
import type { ImageImportClient } from "../../src/client/image-import-client.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import type { ImportStatus } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
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
    report: () => Promise.resolve({ state: "succeeded", run_id: "run" }),
    async *watch(): AsyncGenerator<ImportStatus> {
      const answer = left.shift() ?? new Error("It is asked too often");
      if (answer instanceof Error) throw answer;
      yield await Promise.resolve(answer);
    },
  };
  return { imports } as unknown as ImageImportClient;
}

/** A service in which an import failed, and is imported again. */
function serviceOfTwoRuns(): ImageImportClient {
  const runs = ["first", "second"];
  const ends: Readonly<Record<string, ImportStatus>> = {
    first: importIn({}, { phase: "failed", message: "It is full", failure: { code: "NoSpace" } }),
    second: importIn({}, { phase: "done" }),
  };
  const imports = {
    running: () =>
      Promise.resolve(runs.map((run) => ({ image_id: "image", name: null, run_id: run }))),
    report: () => Promise.resolve({ state: "succeeded", run_id: "second" }),
    async *watch(_imageId: string, { runId = "second" }: { runId?: string }) {
      yield await Promise.resolve(ends[runId]);
    },
  };
  return { imports } as unknown as ImageImportClient;
}

/**
 * Watches for a minute, and leaves. Adds what the display says to `seen`, and what watchAll says.
 */
async function watchAMinute(
  client: ImageImportClient,
  seen: unknown[],
  displayOf: (run: string) => EventLines = () => new EventLines({ write: () => true }, false),
): Promise<void> {
  const leaving = new AbortController();
  const watching = watchAll(client, {
    displayOf: ({ run_id: run }) => displayOf(run),
    onAway: (message) => seen.push(message),
    onIdle: () => seen.push("idle"),
    signal: leaving.signal,
  });
  await vi.advanceTimersByTimeAsync(60_000);
  leaving.abort();
  await watching;
}

describe("watchAll()", () => {
  it("shows the end of each of two imports of one image", async () => {
    const seen: unknown[] = [];

    await watchAMinute(serviceOfTwoRuns(), seen, (run) => {
      const write = (line: string): void => {
        const { event, message } = JSON.parse(line) as Record<string, unknown>;
        if (event === "note") seen.push(`${run}: ${String(message)}`);
      };
      return new EventLines({ write }, false);
    });

    expect(seen.toSorted()).toEqual(["first: failed: It is full", "second: succeeded"]);
  });

  it("follows an import again after a failure, which it names once, and no import twice", async () => {
    const away = new Error("Temporal does not answer");
    const client = serviceOf([away, away, importIn({})]);
    const seen: unknown[] = [];
    const write = (line: string): void => {
      const { event, message } = JSON.parse(line) as Record<string, unknown>;
      if (event !== "phase") seen.push(message ?? event);
    };

    await watchAMinute(client, seen, () => new EventLines({ write }, false));

    expect(seen).toEqual(["Temporal does not answer", "succeeded", "succeeded"]);
  });

  /** A service whose lists of running imports are these, one after the other. */
  function listing(...lists: readonly (() => Promise<unknown[]>)[]): ImageImportClient {
    const left = [...lists];
    const imports = { running: () => left.shift()?.() ?? Promise.resolve([]) };
    return { imports } as unknown as ImageImportClient;
  }

  const none = (): Promise<never[]> => Promise.resolve([]);
  const away = (): Promise<never> =>
    Promise.reject(new ImportError("ApiUnavailable", "The API does not answer"));

  it("waits for an API that has answered before, and says so once", async () => {
    const seen: unknown[] = [];

    await watchAMinute(listing(none, away, away, away), seen);

    expect(seen).toEqual(["idle", "The API does not answer"]);
  });

  it("fails at once for an API that has never answered", async () => {
    const watching = watchAll(listing(away), {
      displayOf: () => new EventLines({ write: () => true }, false),
      onAway: () => undefined,
      onIdle: () => undefined,
      signal: new AbortController().signal,
    });

    expect(await failureOf(watching)).toMatchObject({ code: "ApiUnavailable" });
  });

  it("ends within moments of the user's wish while the API is unreachable", async () => {
    const leaving = new AbortController();
    let hasEnded = false;
    const silent = (): Promise<never> => new Promise(() => undefined);

    const watching = watchAll(listing(none, silent), {
      displayOf: () => new EventLines({ write: () => true }, false),
      onAway: () => undefined,
      onIdle: () => undefined,
      signal: leaving.signal,
    }).then(() => {
      hasEnded = true;
    });
    await vi.advanceTimersByTimeAsync(10_000);
    leaving.abort();
    await vi.advanceTimersByTimeAsync(2_000);

    expect(hasEnded).toBe(true);
    await watching;
  });
});
