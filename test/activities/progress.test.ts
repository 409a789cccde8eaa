import { cancellationSignal } from "@temporalio/activity";
import { CancelledFailure } from "@temporalio/common";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import {
  withProgress,
  type ByteProgress,
  type Progress,
  type ProgressOptions,
} from "../../src/activities/progress.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { activityEnvironment, runStep } from "../support/node-rig.ts";
import { PATIENCE } from "../support/patience.ts";

const ABOUT = { step: "store", store: "fast", totalBytes: 10 } as const;
const OPTIONS: ProgressOptions = {
  about: ABOUT,
  idleTimeoutMs: 60_000,
  idleFailure: "StoreUnavailable",
};

/** Runs work with heartbeats, as an activity does. */
function start<T>(
  work: (progress: Progress, beats: readonly ByteProgress[]) => Promise<T>,
  options: Partial<ProgressOptions> = {},
) {
  const environment = activityEnvironment();
  const beats: ByteProgress[] = [];
  environment.on("heartbeat", (beat: ByteProgress) => beats.push(beat));
  const result = runStep(
    () => withProgress({ ...OPTIONS, ...options }, (progress) => work(progress, beats)),
    environment,
  );
  return { environment, beats, result };
}

async function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => {
      reject(signal.reason as Error);
    });
  });
}

async function forEver(): Promise<never> {
  return new Promise(() => undefined);
}

describe("withProgress()", () => {
  it("returns the result of the work", async () => {
    expect(await start(async () => "done").result).toBe("done");
  });

  it("passes on what the work throws", async () => {
    const failure = new ImportError("NoSpace", "full");

    const { result } = start(async () => {
      throw failure;
    });

    await expect(result).rejects.toBe(failure);
  });

  it("sends no heartbeat for work that ends immediately", async () => {
    const { beats, result } = start(async () => undefined);
    await result;

    expect(beats).toEqual([]);
  });

  it("repeats the bytes done so far in heartbeats while the work reports nothing", async () => {
    let end: () => void = () => undefined;
    const { beats, result } = start(async (progress) => {
      progress.report(4);
      await new Promise<void>((resolve) => {
        end = resolve;
      });
    });
    await vi.waitUntil(() => beats.length >= 3, PATIENCE);
    end();
    await result;

    expect(beats.slice(0, 3).map((beat) => beat.doneBytes)).toEqual([4, 4, 4]);
  });

  it("sends no heartbeat once the work has ended", async () => {
    const { beats, result } = start(async (_progress, own) => {
      await vi.waitUntil(() => own.length >= 1, PATIENCE);
    });
    await result;
    const beaten = beats.length;

    await start(async (_progress, others) => {
      await vi.waitUntil(() => others.length >= 2, PATIENCE);
    }).result;

    expect(beats).toHaveLength(beaten);
  });
});

/** Lets time pass only where the running test says so. */
function stopTheClock(): void {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

describe("withProgress() when nothing moves", () => {
  it("aborts the work, and fails with the bytes done so far", async () => {
    const { result } = start(
      async (progress) => {
        progress.report(3);
        return aborted(progress.signal);
      },
      { idleTimeoutMs: 300 },
    );

    await expect(result).rejects.toMatchObject({
      code: "StoreUnavailable",
      retryable: true,
      message: "No byte has moved for 300 ms at byte 3 of 10",
    });
  });

  it("fails with the code that the step names", async () => {
    const { result } = start(forEver, { idleTimeoutMs: 1, idleFailure: "StagingUnavailable" });

    await expect(result).rejects.toMatchObject({ code: "StagingUnavailable" });
  });

  it("ends also when the work hangs and ignores its signal", async () => {
    const { result } = start(forEver, { idleTimeoutMs: 1 });

    await expect(result).rejects.toMatchObject({
      message: "No byte has moved for 1 ms at byte 0 of 10",
    });
  });

  it("does not abort work that moves", async () => {
    stopTheClock();
    const { beats, result } = start(
      async (progress) => {
        for (let second = 1; second <= 3; second += 1) {
          vi.advanceTimersByTime(1_000);
          progress.report(1);
        }
      },
      { idleTimeoutMs: 1500 },
    );

    await expect(result).resolves.toBeUndefined();
    expect(beats).toHaveLength(6);
  });

  it("does not abort work that reports what it waits for", async () => {
    stopTheClock();
    const { beats, result } = start(
      async (progress) => {
        progress.report(3);
        for (let second = 1; second <= 3; second += 1) {
          vi.advanceTimersByTime(1_000);
          progress.showLife();
        }
      },
      { idleTimeoutMs: 1500 },
    );

    await expect(result).resolves.toBeUndefined();
    expect(beats.at(-1)).toMatchObject({ doneBytes: 3 });
  });

  it("reports in heartbeats what the work waits for, until a byte moves", async () => {
    stopTheClock();
    const { beats, result } = start(async (progress) => {
      progress.report(3);
      progress.showLife("no answer");
      vi.advanceTimersByTime(500);
      progress.report(4);
      vi.advanceTimersByTime(500);
    });

    await result;

    expect(beats.map(({ waitsFor }) => waitsFor)).toEqual(["no answer", undefined]);
  });

  it("does not abort work when the wall clock jumps", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { result } = start(async (progress, beats) => {
      vi.setSystemTime(Date.now() + 24 * 3_600_000);
      await vi.waitUntil(() => beats.length >= 2, PATIENCE);
      progress.signal.throwIfAborted();
    });

    await expect(result).resolves.toBeUndefined();
  });

  it("is ten times as patient after the last byte, which has to reach the disk", async () => {
    stopTheClock();
    const { result } = start(
      async (progress) => {
        progress.report(10);
        vi.advanceTimersByTime(6_900);
        return "flushed";
      },
      { idleTimeoutMs: 700 },
    );

    expect(await result).toBe("flushed");
  });
});

describe("withProgress() on a cancel", () => {
  it("aborts the work, and ends as cancelled whatever error the work throws", async () => {
    const { environment, result } = start(async ({ signal }) => {
      await aborted(signal).catch(() => {
        throw new Error("read was interrupted");
      });
    });

    environment.cancel();

    await expect(result).rejects.toBeInstanceOf(CancelledFailure);
  });

  it("does not take the result from work that was just done", async () => {
    const { environment, result } = start(async () => {
      await aborted(cancellationSignal()).catch(() => undefined);
      return "done";
    });

    environment.cancel();

    expect(await result).toBe("done");
  });

  it("ends also when the work hangs and ignores its signal", async () => {
    const { environment, result } = start(forEver);

    environment.cancel();

    await expect(result).rejects.toBeInstanceOf(CancelledFailure);
  });
});
