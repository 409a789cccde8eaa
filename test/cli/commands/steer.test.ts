import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { findFreePort } from "../../../src/stack/ports.ts";
import { CommandLine } from "../../support/command-line.ts";
import { waitForPart } from "../../support/growing-part.ts";
import { SharedStack } from "../../support/shared-stack.ts";
import { PATIENCE } from "../../support/patience.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";

const stack = new SharedStack();
const { commandLine } = stack;

async function waitUntilPaused(imageId: string): Promise<void> {
  const client = await stack.connect();
  await vi.waitUntil(
    async () => (await client.imports.status(imageId)).pause === "paused",
    PATIENCE,
  );
}

describe("pause", () => {
  it("returns before the import is paused, and pauses it", async () => {
    const { image_id: imageId } = await stack.runningImport();

    const result = await commandLine.json("pause", imageId);
    await waitUntilPaused(imageId);

    expect(result).toEqual({
      exitCode: 0,
      answer: { image_id: imageId, status: "pausing" },
      failure: undefined,
    });
  });

  it("shows in the status", async () => {
    const { image_id: imageId } = await stack.runningImport();
    await commandLine.answer("pause", imageId);
    await waitUntilPaused(imageId);

    const { stdout } = await commandLine.run("status", imageId);

    expect(stdout).toMatch(/\nphase +storing, paused\n/);
  });

  it("shows people the new status", async () => {
    const { image_id: imageId } = await stack.runningImport();

    expect(await commandLine.run("pause", imageId)).toEqual({
      exitCode: 0,
      stdout: `image_id  ${imageId}\nstatus    pausing\n`,
      stderr: "",
    });
  });
});

describe("resume", () => {
  it("lets a paused import continue to its end", async () => {
    const { image_id: imageId } = await stack.runningImport();
    await commandLine.answer("pause", imageId);
    await waitUntilPaused(imageId);
    stack.release(imageId);

    const result = await commandLine.json("resume", imageId);

    expect(result).toEqual({
      exitCode: 0,
      answer: { image_id: imageId, status: "running" },
      failure: undefined,
    });
    expect(await commandLine.json("watch", imageId)).toMatchObject({
      exitCode: 0,
      answer: { status: "active" },
    });
  });
});

describe("drop-store", () => {
  it("returns the stores that are left, and the image becomes active there", async () => {
    const imageId = await stack.heldImage();
    const importing = commandLine.start(
      "start",
      imageId,
      "--store",
      "local",
      "--store",
      "slow",
      "--wait",
    );
    await waitForPart(stack.store("slow"), imageId, 1);

    const result = await commandLine.json("drop-store", imageId, "--store", "slow");

    expect(result).toEqual({
      exitCode: 0,
      answer: { image_id: imageId, dropped: "slow", stores: ["local"] },
      failure: undefined,
    });
    expect(await importing.result()).toMatchObject({
      exitCode: 0,
      answer: { status: "active", stores: ["local"] },
    });
  });

  it("shows people the stores that are left", async () => {
    const imageId = await stack.heldImage();
    await commandLine.answer("start", imageId, "--store", "local", "--store", "slow");
    await waitForPart(stack.store("slow"), imageId, 1);

    expect(await commandLine.run("drop-store", imageId, "--store", "slow")).toEqual({
      exitCode: 0,
      stdout: `image_id  ${imageId}\ndropped   slow\nstores    local\n`,
      stderr: "",
    });
  });

  it("refuses the only store", async () => {
    const { image_id: imageId } = await stack.runningImport();

    const result = await commandLine.json("drop-store", imageId, "--store", "slow");

    expect(result).toMatchObject({
      exitCode: 4,
      failure: {
        code: "ImageConflict",
        message: 'Cannot drop store "slow": it is the only store left; cancel the import instead',
      },
    });
  });

  it("needs a store", async () => {
    const { exitCode, stderr } = await commandLine.run("drop-store", randomUUID());

    expect(exitCode).toBe(2);
    expect(stderr).toContain("--store <name>");
  });
});

describe("cancel", () => {
  it("returns at once; the import undoes its steps", async () => {
    const { image_id: imageId } = await stack.runningImport();

    const result = await commandLine.json("cancel", imageId);

    expect(result).toEqual({
      exitCode: 0,
      answer: { image_id: imageId, status: "cancelling" },
      failure: undefined,
    });
    expect(await commandLine.json("watch", imageId)).toMatchObject({
      exitCode: 1,
      failure: { code: "ImportCancelled" },
    });
  });

  it("returns with --wait once the import is undone, and keeps the upload", async () => {
    const { image_id: imageId } = await stack.runningImport();

    const result = await commandLine.json("cancel", imageId, "--wait");

    expect(result).toEqual({
      exitCode: 0,
      answer: { image_id: imageId, status: "cancelled" },
      failure: undefined,
    });
    expect(await stack.traces(imageId)).toEqual({
      image: "uploading",
      isClaimed: false,
      locations: [],
      leases: [],
      staging: ["@"],
      stores: { local: [], slow: [], tiny: [] },
    });
  });

  it("cancels a paused import", async () => {
    const { image_id: imageId } = await stack.runningImport();
    await commandLine.answer("pause", imageId);
    await waitUntilPaused(imageId);

    await commandLine.answer("cancel", imageId, "--wait");

    expect(await stack.newestTask(imageId)).toMatchObject({
      status: "failure",
      message: 'Error: ImportCancelled: store "slow": it was cancelled',
    });
  });
});

describe.each(["pause", "resume", "cancel"])("%s", (command) => {
  it("needs nothing but Temporal", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const elsewhere = new CommandLine({
      dataDir: join(makeTemporaryDirectory(), "none"),
      env: { TEMPORAL_ADDRESS: stack.file.temporal_address },
    });

    expect(await elsewhere.json(command, imageId)).toMatchObject({
      exitCode: 0,
      answer: { image_id: imageId },
    });
  });

  it("reports that an import has ended", async () => {
    const imageId = await stack.activeImage();

    expect(await commandLine.json(command, imageId)).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImportEnded",
        image_id: imageId,
        message: `The import of image "${imageId}" has ended already (completed)`,
        hint: "`image-import status <image-id>` shows how it ended.",
      },
    });
  });

  it("reports that Temporal has no import of the image", async () => {
    const imageId = randomUUID();

    expect(await commandLine.json(command, imageId)).toEqual({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "ImportNotFound",
        image_id: imageId,
        message: `Temporal has no import of image "${imageId}" that could answer`,
        hint: "`image-import start <image-id>` starts an import.",
      },
    });
  });
});

describe("pause, resume and cancel", () => {
  it("report that Temporal is unreachable", async () => {
    const TEMPORAL_ADDRESS = `127.0.0.1:${await findFreePort()}`;
    const away = new CommandLine({ dataDir: stack.dataDir, env: { TEMPORAL_ADDRESS } });

    const results = await Promise.all(
      ["pause", "resume", "cancel"].map((command) => away.json(command, randomUUID())),
    );

    const refused = {
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "TemporalUnavailable",
        hint: "Check the Temporal server; `image-import doctor` helps.",
      },
    };
    expect(results).toMatchObject([refused, refused, refused]);
  });
});

describe("steering that no worker takes up", () => {
  it.each(["pause", "resume", "cancel"])(
    "is kept, and reported as waiting: %s",
    async (command) => {
      const idle = await stack.withoutWorker();
      const imageId = await stack.stagedImage();
      await idle.json("start", imageId, "--accept-timeout", "3s");

      expect(await idle.json(command, imageId)).toEqual({
        exitCode: 5,
        answer: { image_id: imageId, status: "waiting" },
        failure: undefined,
      });
    },
  );

  it("makes `cancel --wait` show what it waits for", async () => {
    const idle = await stack.withoutWorker();
    const imageId = await stack.stagedImage();
    await idle.json("start", imageId, "--accept-timeout", "3s");

    const cancelling = idle.open("cancel", imageId, "--wait");

    await cancelling.shows("waiting for a worker to finish the undo; `image-import doctor` shows");
  });
});
