import { randomUUID } from "node:crypto";
import { hostname, userInfo } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { writeRandomFile } from "../support/disk-images.ts";
import { digestsOf } from "../support/file-digests.ts";
import { findPart, followPart, waitForPart } from "../support/growing-part.ts";
import { MIB } from "../support/mib.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { PATIENCE } from "../support/patience.ts";

const IMAGE_BYTES = 32 * MIB;

// One second's worth of bytes passes at once, the rest at this rate.
const RATE_BYTES = 8 * MIB;
/** Twice what passes at once, so that a copy that starts afresh is seen to be shorter. */
const HELD_AT_BYTES = 2 * RATE_BYTES;

const stack = useRunningStack({
  mayHold: true,
  config: {
    stores: { slow: { zero_copy: false, bandwidth_limit: RATE_BYTES } },
    import: { heartbeat_timeout: "3s" },
  },
});

const { commandLine } = stack;

const NOTHING = {
  isClaimed: false,
  locations: [],
  leases: [],
  staging: [],
  stores: { local: [], slow: [] },
};

const IMPORTED = {
  ...NOTHING,
  image: "active",
  locations: ["slow active"],
  stores: { local: [], slow: ["@.1"] },
};

async function writeDisk(): Promise<string> {
  const path = join(makeTemporaryDirectory(), "disk.raw");
  await writeRandomFile(path, IMAGE_BYTES);
  return path;
}

/** Imports a file with one command, and waits until its copy is held with a half of the bytes. */
async function importHalf() {
  const imageId = randomUUID();
  const path = await writeDisk();
  stack.holds.hold("slow", imageId, HELD_AT_BYTES);
  const importing = commandLine.start("import", path, "--id", imageId);
  await waitForPart(stack.store("slow"), imageId, HELD_AT_BYTES);
  return { imageId, path, importing };
}

/** The same in single steps, so that only the import removes the upload. */
async function startHalf() {
  const imageId = randomUUID();
  const path = await writeDisk();
  const formats = ["--disk-format", "raw", "--container-format", "bare"];
  await commandLine.answer("image", "create", "--id", imageId, ...formats);
  await commandLine.answer("image", "stage", imageId, path);
  stack.holds.hold("slow", imageId, HELD_AT_BYTES);
  await commandLine.answer("start", imageId);
  await waitForPart(stack.store("slow"), imageId, HELD_AT_BYTES);
  return { imageId, path };
}

async function waitUntilPaused(imageId: string): Promise<void> {
  await vi.waitUntil(async () => (await stack.report(imageId)).live?.pause === "paused", PATIENCE);
}

async function waitForAnotherWorker(earlierPid: number): Promise<void> {
  await vi.waitUntil(() => {
    const { worker } = stack.file.pids;
    return worker !== null && worker !== earlierPid;
  }, PATIENCE);
}

describe("a paused import", () => {
  it("writes nothing, also after its worker was killed, and resumes from where it was", async () => {
    const { imageId, path, importing } = await importHalf();
    await commandLine.answer("pause", imageId);
    await waitUntilPaused(imageId);
    const paused = findPart(stack.store("slow"), imageId);

    const worker = stack.pidOf("worker");
    await stack.kill("worker");
    await waitForAnotherWorker(worker);
    // Answered by the new worker: it has taken the import over, and leaves it paused.
    await waitUntilPaused(imageId);
    const stillPaused = findPart(stack.store("slow"), imageId);
    const following = followPart(stack.store("slow"), imageId, importing.result());
    stack.holds.release("slow", imageId);
    await commandLine.answer("resume", imageId);
    const history = await following;

    expect(paused?.sizeBytes).toBeLessThan(IMAGE_BYTES);
    expect(stillPaused).toEqual(paused);
    expect(history).toEqual({ names: [paused?.name], smallestBytes: paused?.sizeBytes });
    expect(await importing.result()).toMatchObject({
      exitCode: 0,
      answer: { status: "active", ...(await digestsOf(path)) },
    });
    expect(await digestsOf(join(stack.store("slow"), `${imageId}.1`))).toEqual(
      await digestsOf(path),
    );
    expect(await stack.traces(imageId)).toEqual(IMPORTED);
  });
});

describe("cancel --wait in the middle of a copy", () => {
  it("leaves no bytes in the store and an image that can be imported at once", async () => {
    const { imageId, path } = await startHalf();

    const cancelled = await commandLine.json("cancel", imageId, "--wait");
    const traces = await stack.traces(imageId);
    const task = await stack.newestTask(imageId);
    const status = await commandLine.json("status", imageId);
    stack.holds.release("slow", imageId);
    const again = await commandLine.json("start", imageId, "--wait");

    expect(status).toMatchObject({
      answer: { cancelled_by: `${userInfo().username}@${hostname()}` },
    });
    expect(cancelled).toMatchObject({ exitCode: 0, answer: { status: "cancelled" } });
    expect(traces).toEqual({ ...NOTHING, image: "uploading", staging: ["@"] });
    expect(task).toMatchObject({
      status: "failure",
      message: expect.stringMatching(/^Error: ImportCancelled: store "slow": /) as string,
    });
    expect(again).toMatchObject({ exitCode: 0, answer: await digestsOf(path) });
  });

  it("makes the command that imports end with exit code 1, and discards what it staged", async () => {
    const { imageId, importing } = await importHalf();

    await commandLine.answer("cancel", imageId, "--wait");
    const result = await importing.result();

    expect(result).toMatchObject({ exitCode: 1, failure: { code: "ImportCancelled" } });
    expect(result).toMatchObject({ failure: { image: "removed" } });
    expect(await stack.traces(imageId)).toEqual({ ...NOTHING, image: "deleted" });
  });
});

describe("Ctrl-C while an import runs", () => {
  it("detaches with exit code 6, and the import continues", async () => {
    const imageId = randomUUID();
    stack.holds.hold("slow", imageId, HELD_AT_BYTES);
    const importing = commandLine.open("import", await writeDisk(), "--id", imageId);
    // It has learned that the import is accepted.
    await importing.shows("\nverifying ");

    importing.interrupt();
    const left = await importing.result();
    stack.holds.release("slow", imageId);
    const watched = await commandLine.json("watch", imageId);

    expect(left).toMatchObject({
      exitCode: 6,
      stdout: expect.stringMatching(`^image_id +${imageId}\nstatus +importing\n`) as string,
    });
    expect(watched).toMatchObject({ exitCode: 0, answer: { status: "active" } });
    expect(await stack.traces(imageId)).toEqual(IMPORTED);
  });
});

describe("image delete while an import runs", () => {
  it("cancels the import and leaves no bytes", async () => {
    const { imageId, importing } = await importHalf();

    const deleted = await commandLine.json("image", "delete", imageId);
    const shown = await commandLine.json("image", "show", imageId);

    expect(deleted).toMatchObject({ exitCode: 0, answer: { id: imageId, status: "deleted" } });
    expect(shown).toMatchObject({ exitCode: 3, failure: { code: "ImageNotFound" } });
    expect(await importing.result()).toMatchObject({ exitCode: 1 });
    expect(await stack.traces(imageId)).toEqual({ ...NOTHING, image: "deleted" });
  });
});
