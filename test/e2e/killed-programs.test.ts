import { randomUUID } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { writeRandomFile } from "../support/disk-images.ts";
import { digestsOf, type FileDigests } from "../support/file-digests.ts";
import {
  findPart,
  followPart,
  waitForPart,
  type Part,
  type PartHistory,
} from "../support/growing-part.ts";
import type { JsonCommandResult } from "../support/command-line.ts";
import type { ImageTraces } from "../support/image-traces.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const IMAGE_BYTES = 32 * MIB;

// One second's worth of bytes passes at once, the rest at this rate.
const RATE_BYTES = 8 * MIB;

/**
 * When a copy is broken off: at twice what would pass at once, so that one that starts afresh is
 * seen to be shorter.
 */
const BROKEN_OFF_AT_BYTES = 2 * RATE_BYTES;

const stack = useRunningStack({
  mayHold: true,
  config: {
    stores: {
      fast: { zero_copy: false },
      slow: { zero_copy: false, bandwidth_limit: RATE_BYTES },
    },
    import: { heartbeat_timeout: "3s" },
  },
});

/** A fault in the middle of a copy. */
interface Disaster {
  readonly kill: () => Promise<void>;
  /** The user's action then. Default: none, the import continues automatically. */
  readonly recover?: () => Promise<void>;
}

/** The result of an import that went through a {@link Disaster}. */
interface Survival {
  readonly digests: FileDigests;
  /** The part, as the kill left it. */
  readonly brokenOff: Part | undefined;
  /** The part from then on. */
  readonly history: PartHistory;
  readonly result: JsonCommandResult;
  readonly traces: ImageTraces;
  readonly storedDigests: FileDigests;
}

/** Imports a file with one command, and lets the disaster happen while its copy is held. */
async function importAcross({ kill, recover }: Disaster): Promise<Survival> {
  const { imageId, path, importing } = await startImport("--store", "slow");
  const directory = stack.store("slow");
  await waitForPart(directory, imageId, BROKEN_OFF_AT_BYTES);
  await kill();
  const brokenOff = findPart(directory, imageId);
  const following = followPart(directory, imageId, importing.result());
  await recover?.();
  stack.holds.release("slow", imageId);
  return {
    digests: await digestsOf(path),
    brokenOff,
    history: await following,
    result: await importing.result(),
    traces: await stack.traces(imageId),
    storedDigests: await digestsOf(join(directory, `${imageId}.1`)),
  };
}

async function startImport(...options: readonly string[]) {
  const imageId = randomUUID();
  const path = join(makeTemporaryDirectory(), "disk.raw");
  await writeRandomFile(path, IMAGE_BYTES);
  stack.holds.hold("slow", imageId, BROKEN_OFF_AT_BYTES);
  const importing = stack.commandLine.start("import", path, "--id", imageId, ...options);
  return { imageId, path, importing };
}

function expectThatItHitTheMiddle({ brokenOff }: Survival): void {
  expect(brokenOff?.sizeBytes).toBeGreaterThanOrEqual(BROKEN_OFF_AT_BYTES);
  expect(brokenOff?.sizeBytes).toBeLessThan(IMAGE_BYTES);
}

/**
 * The part resumed from where it was: under its name, and never shorter than the whole blocks that
 * it had.
 */
function expectThatItWasResumed({ brokenOff, history }: Survival): void {
  const { name = "", sizeBytes = 0 } = brokenOff ?? {};
  expect(history.names).toEqual([name]);
  expect(history.smallestBytes).toBeGreaterThanOrEqual(Math.floor(sizeBytes / MIB) * MIB);
}

function expectThatItCompleted(survival: Survival): void {
  const { digests, result, traces, storedDigests } = survival;
  expect(result).toMatchObject({ exitCode: 0, answer: { status: "active", ...digests } });
  expect(storedDigests).toEqual(digests);
  expect(traces).toEqual({
    image: "active",
    isClaimed: false,
    locations: ["slow active"],
    leases: [],
    staging: [],
    stores: { fast: [], local: [], slow: ["@.1"] },
  });
}

describe("an import, when something is killed in the middle of its copy", () => {
  it("completes automatically, from the same byte, when it is the worker", async () => {
    const survival = await importAcross({ kill: () => stack.kill("worker") });

    expectThatItHitTheMiddle(survival);
    expectThatItWasResumed(survival);
    expectThatItCompleted(survival);
  });

  it("completes automatically, from the same byte, when it is Temporal", async () => {
    const survival = await importAcross({ kill: () => stack.kill("temporal") });

    expectThatItHitTheMiddle(survival);
    expectThatItWasResumed(survival);
    expectThatItCompleted(survival);
  });

  it("completes automatically, from the same byte, when it is Postgres", async () => {
    const { worker } = stack.file.pids;

    const survival = await importAcross({ kill: () => stack.kill("postgres") });

    // Its copies continue meanwhile.
    expect(stack.file.pids.worker).toBe(worker);
    expectThatItHitTheMiddle(survival);
    expectThatItWasResumed(survival);
    expectThatItCompleted(survival);
  });

  it("completes automatically, from the same byte, when it is all three at once", async () => {
    const survival = await importAcross({
      kill: () => stack.kill("worker", "temporal", "postgres"),
    });

    expectThatItHitTheMiddle(survival);
    expectThatItWasResumed(survival);
    expectThatItCompleted(survival);
  });

  it("continues with the next start when it is `npm start`, whose programs were left running", async () => {
    const survival = await importAcross({
      kill: () => stack.killSupervisor(),
      recover: () => stack.start(),
    });

    expectThatItHitTheMiddle(survival);
    expectThatItWasResumed(survival);
    expectThatItCompleted(survival);
  });

  it("continues with the next start when it is `npm start` with everything", async () => {
    const survival = await importAcross({
      kill: () => stack.killSupervisor("worker", "temporal", "postgres"),
      recover: () => stack.start(),
    });

    expectThatItHitTheMiddle(survival);
    expectThatItWasResumed(survival);
    expectThatItCompleted(survival);
  });

  it("keeps the copy of a store that was finished before", async () => {
    const { imageId, importing } = await startImport("--store", "fast", "--store", "slow");
    const finished = join(stack.store("fast"), `${imageId}.1`);
    await waitForPart(stack.store("slow"), imageId, BROKEN_OFF_AT_BYTES);
    await vi.waitUntil(() => existsSync(finished), PATIENCE);
    const before = statSync(finished);

    await stack.kill("worker");
    stack.holds.release("slow", imageId);
    const { exitCode } = await importing.result();

    expect(exitCode).toBe(0);
    const { ino, mtimeMs } = statSync(finished);
    expect({ ino, mtimeMs }).toEqual({ ino: before.ino, mtimeMs: before.mtimeMs });
  });
});
