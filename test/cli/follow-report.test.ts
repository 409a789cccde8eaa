import { beforeEach, describe, expect, it, vi } from "vitest";
import { followReport } from "../../src/cli/follow-report.ts";
import { EventLines } from "../../src/cli/event-lines.ts";
import type { Service } from "../../src/client/service.ts";
import { failureOf } from "../support/failure-of.ts";

beforeEach(() => {
  vi.useFakeTimers();
  return () => {
    vi.useRealTimers();
  };
});

const silent = (): Promise<never> => new Promise(() => undefined);

/** A service that answers with these reports, and then not any more. */
function serviceOf(...reports: readonly object[]): Service {
  const left = [...reports];
  const imports = {
    report: () => (left.length === 0 ? silent() : Promise.resolve(left.shift())),
    wait: silent,
    async *watch(_imageId: string, { ended }: { ended: AbortSignal }) {
      await new Promise((resolve) => {
        ended.addEventListener("abort", resolve);
      });
    },
  };
  return { imports } as unknown as Service;
}

function follow(service: Service, signal: AbortSignal) {
  const session = {
    progress: new EventLines({ write: () => true }, false),
    about: () => undefined,
    page: () => Promise.resolve({ width: undefined, nowMs: 0, linkOf: () => undefined }),
  };
  return followReport(session, service, { imageId: "image", signal });
}

describe("followReport()", () => {
  it("answers with the last report when the user leaves while the service is unreachable", async () => {
    const running = { state: "running", image_id: "image", run_id: "run", task: null };
    const leaving = new AbortController();
    let last: unknown;

    const following = follow(serviceOf(running), leaving.signal).then((report) => {
      last = report;
    });
    await vi.advanceTimersByTimeAsync(1_000);
    leaving.abort();
    await vi.advanceTimersByTimeAsync(5_000);

    expect(last).toEqual(running);
    await following;
  });

  it("ends without a report when none has come by then", async () => {
    const leaving = new AbortController();

    const failed = failureOf(follow(serviceOf(), leaving.signal));
    await vi.advanceTimersByTimeAsync(1_000);
    leaving.abort();
    await vi.advanceTimersByTimeAsync(5_000);

    expect(await failed).toMatchObject({ code: "Interrupted" });
  });
});
