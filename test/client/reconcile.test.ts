import type { Client } from "@temporalio/client";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { findLeftovers } from "../../src/client/reconcile.ts";
import { sleep } from "../../src/client/sleep.ts";

beforeEach(() => {
  vi.useFakeTimers();
  return () => {
    vi.useRealTimers();
  };
});

describe("findLeftovers()", () => {
  it("waits longer than a timer of Node can", async () => {
    const result = async () => {
      await sleep(3_600_000, new AbortController().signal);
      return { imports: [] };
    };
    const run = { result };
    const client = { workflow: { start: () => Promise.resolve(run) } } as unknown as Client;

    const found = findLeftovers(client, 30 * 86_400_000);
    await vi.advanceTimersByTimeAsync(3_600_000);

    expect(await found).toEqual({ imports: [] });
  });
});
