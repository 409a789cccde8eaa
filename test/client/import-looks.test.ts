import type { WorkflowExecutionDescription } from "@temporalio/client";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { lookAtImport } from "../../src/client/import-looks.ts";
import { Turns } from "../../src/client/turns.ts";
import type { ImportStatus } from "../../src/workflow/contract.ts";
import { importIn } from "../support/shown-states.ts";

/** A run that a test lets continue, and the requests that were made. */
class Run {
  readonly requests: string[] = [];
  historyLength = 10;
  state = "RUNNING";
  status = importIn({});

  readonly describe = async (): Promise<WorkflowExecutionDescription> => {
    this.requests.push("describe");
    const { historyLength, state } = this;
    const description = { runId: "run", historyLength, status: { name: state }, raw: {} };
    return description as unknown as WorkflowExecutionDescription;
  };

  readonly query = async (): Promise<ImportStatus> => {
    this.requests.push("query");
    return this.status;
  };
}

/** Follows a run; the requests of each second are counted apart. */
function follow(run: Run, ended = new AbortController().signal) {
  const seen: ImportStatus[] = [];
  const turns = new Turns(0);
  const following = (async () => {
    for await (const status of lookAtImport(run, { everyMs: 250, turns, ended })) seen.push(status);
  })();
  return { seen, following };
}

async function requestsIn(run: Run, ms: number): Promise<string[]> {
  run.requests.length = 0;
  await vi.advanceTimersByTimeAsync(ms);
  return [...run.requests];
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance", "Date"] });
  return () => {
    vi.useRealTimers();
  };
});

describe("lookAtImport()", () => {
  it("asks the worker only when the run has progressed", async () => {
    const run = new Run();
    follow(run);

    expect(await requestsIn(run, 0)).toEqual(["describe", "query"]);
    expect(new Set(await requestsIn(run, 10_000))).toEqual(new Set(["describe"]));
    run.historyLength += 1;
    expect(await requestsIn(run, 5_000)).toContain("query");
  });

  it("asks rarely while nothing changes", async () => {
    const run = new Run();
    follow(run);
    await requestsIn(run, 10_000);

    expect(await requestsIn(run, 60_000)).toHaveLength(15);
  });

  it("yields the end, and asks no more", async () => {
    const run = new Run();
    const { seen, following } = follow(run);
    await requestsIn(run, 1_000);

    Object.assign(run, {
      state: "COMPLETED",
      historyLength: 20,
      status: importIn({}, { phase: "done" }),
    });
    await requestsIn(run, 5_000);
    await following;

    expect(seen.at(-1)?.phase).toBe("done");
    expect(await requestsIn(run, 60_000)).toEqual([]);
  });

  it("looks a last time at once when the import is known to have ended", async () => {
    const run = new Run();
    const ended = new AbortController();
    const { seen, following } = follow(run, ended.signal);
    await requestsIn(run, 60_000);
    const before = seen.length;

    ended.abort();
    await requestsIn(run, 0);
    await following;

    expect(seen.length).toBe(before + 1);
  });
});

describe("Turns", () => {
  it("gives each party the same share, even if another one has many callers", async () => {
    const turns = new Turns(125);
    const { signal } = new AbortController();
    const order: string[] = [];
    const wait = (party: string) => turns.next(signal, party).then(() => order.push(party));
    const greedy = Array.from({ length: 6 }, () => wait("greedy"));
    const others = [wait("a"), wait("b"), wait("a")];
    await vi.advanceTimersByTimeAsync(2_000);
    await Promise.all([...greedy, ...others]);
    expect(order).toEqual([
      ...["greedy", "greedy", "a", "b", "greedy", "a"],
      ...["greedy", "greedy", "greedy"],
    ]);
  });

  it("continues when the wall clock is set back", async () => {
    const turns = new Turns(125);
    const { signal } = new AbortController();
    await turns.next(signal);

    vi.setSystemTime(Date.now() - 3_600_000);
    let turn = 0;
    void turns.next(signal).then(() => (turn += 1));
    await vi.advanceTimersByTimeAsync(125);

    expect(turn).toBe(1);
  });

  it("gives the turn of a caller that left to the next one", async () => {
    const turns = new Turns(125);
    const leaving = new AbortController();
    const { signal } = new AbortController();
    await turns.next(signal, "a");
    const left = turns.next(leaving.signal, "a");
    const other = turns.next(signal, "b");
    leaving.abort();
    await left;
    await vi.advanceTimersByTimeAsync(125);
    await other;
    expect(vi.getTimerCount()).toBe(0);
  });

  it("keeps a distance between the requests of all callers", async () => {
    const turns = new Turns(125);
    const times: number[] = [];
    const startedAtMs = Date.now();
    const { signal } = new AbortController();

    for (let caller = 0; caller < 3; caller += 1) {
      void turns.next(signal).then(() => times.push(Date.now() - startedAtMs));
    }
    await vi.advanceTimersByTimeAsync(1_000);

    expect(times).toEqual([0, 125, 250]);
  });
});
