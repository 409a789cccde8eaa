import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it, vi } from "vitest";
import type { RunningCommand } from "../support/command-line.ts";
import { writeRandomFile } from "../support/disk-images.ts";
import { digestsOf } from "../support/file-digests.ts";
import { findPart, waitForPart, type Part } from "../support/growing-part.ts";
import { MIB } from "../support/mib.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const IMAGE_BYTES = 32 * MIB;

// A staging is held where it waits for its bandwidth.
const stack = useRunningStack({
  mayHold: true,
  config: { stores: { local: {} }, staging: { bandwidth_limit: "1GiB" } },
});

const NOTHING = { locations: [], leases: [], staging: [], stores: { local: [] } };

interface HalfStaged {
  readonly imageId: string;
  readonly path: string;
  readonly importing: RunningCommand;
}

/** Starts to import a file with one command, and waits until its staging is held half-way. */
async function stageHalf(...options: readonly string[]): Promise<HalfStaged> {
  const imageId = randomUUID();
  const path = join(makeTemporaryDirectory(), "disk.raw");
  await writeRandomFile(path, IMAGE_BYTES);
  stack.holds.holdStaging(IMAGE_BYTES / 2);
  const importing = stack.commandLine.start("import", path, "--id", imageId, ...options);
  await waitForPart(stack.staging, imageId, IMAGE_BYTES / 2);
  return { imageId, path, importing };
}

function expectThatItHitTheMiddle(part: Part | undefined): void {
  expect(part?.sizeBytes).toBeGreaterThanOrEqual(IMAGE_BYTES / 2);
  expect(part?.sizeBytes).toBeLessThan(IMAGE_BYTES);
}

/** Waits until the worker has removed the part of the killed process, and the command works. */
async function untilTakeover(work: () => Promise<{ readonly exitCode: number | null }>) {
  await vi.waitUntil(async () => (await work()).exitCode === 0, {
    timeout: 60_000,
    interval: 1_000,
  });
}

describe("staging that is killed half-way", () => {
  it("can't be imported, and works again", async () => {
    const { imageId, path, importing } = await stageHalf();

    const start = await stack.commandLine.json("start", imageId);
    const stageAtOnce = await stack.commandLine.json("image", "stage", imageId, path);
    const between = await stack.traces(imageId);
    const part = findPart(stack.staging, imageId);
    await importing.kill();
    stack.holds.releaseStaging();
    await untilTakeover(() => stack.commandLine.json("image", "stage", imageId, path));
    const again = await stack.commandLine.json("start", imageId, "--wait");

    expectThatItHitTheMiddle(part);
    expect(start).toMatchObject({ exitCode: 4, failure: { code: "StagingBusy" } });
    expect(stageAtOnce).toMatchObject({ exitCode: 4, failure: { code: "StagingBusy" } });
    expect(between).toMatchObject({ image: "uploading", isClaimed: false, locations: [] });
    expect(again).toMatchObject({ exitCode: 0, answer: await digestsOf(path) });
    expect(await stack.traces(imageId)).toEqual({
      ...NOTHING,
      image: "active",
      isClaimed: false,
      locations: ["local active"],
      stores: { local: ["@.1"] },
    });
  });
});

describe("the part of a staging", () => {
  it("is refused as the data of another image", async () => {
    const { imageId } = await stageHalf();
    const part = findPart(stack.staging, imageId);
    const uri = pathToFileURL(join(stack.staging, part?.name ?? "")).href;
    const other = randomUUID();
    const formats = ["--disk-format", "raw", "--container-format", "bare"];
    await stack.commandLine.answer("image", "create", "--id", other, ...formats);

    const adopt = await stack.commandLine.json("image", "stage", other, "--adopt", "--uri", uri);
    const start = await stack.commandLine.json("start", other, "--uri", uri, "--wait");

    expectThatItHitTheMiddle(part);
    expect(adopt).toMatchObject({ exitCode: 1, failure: { code: "StagedDataRefused" } });
    expect(start).toMatchObject({ exitCode: 1, failure: { code: "StagedDataRefused" } });
    expect(findPart(stack.staging, imageId)).toEqual(part);
    expect(await stack.traces(other)).toEqual({ ...NOTHING, image: "queued", isClaimed: false });
  });
});

describe("import that is interrupted while it stages", () => {
  it.each([
    { options: [], image: "deleted" },
    { options: ["--keep"], image: "queued" },
  ])("leaves no bytes and an image that is $image with $options", async ({ options, image }) => {
    const { imageId, importing } = await stageHalf(...options);
    const part = findPart(stack.staging, imageId);

    importing.interrupt();
    const result = await importing.result();

    expectThatItHitTheMiddle(part);
    expect(result).toMatchObject({ exitCode: 1, answer: undefined });
    expect(result.failure).toMatchObject({ code: "Interrupted" });
    expect(await stack.traces(imageId)).toEqual({ ...NOTHING, image, isClaimed: false });
  });

  it("leaves an image that can be staged and imported at once with --keep", async () => {
    const { imageId, path, importing } = await stageHalf("--keep");
    importing.interrupt();
    await importing.result();
    stack.holds.releaseStaging();

    const staged = await stack.commandLine.json("image", "stage", imageId, path);
    const imported = await stack.commandLine.json("start", imageId, "--wait");

    expect(staged.exitCode).toBe(0);
    expect(imported).toMatchObject({ exitCode: 0, answer: await digestsOf(path) });
  });
});
