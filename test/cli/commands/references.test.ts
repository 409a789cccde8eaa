import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { findFreePort } from "../../../src/stack/ports.ts";
import { CommandLine } from "../../support/command-line.ts";
import { SharedStack } from "../../support/shared-stack.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

async function namedImage(name: string): Promise<string> {
  const client = await stack.connect();
  const { id } = await client.images.create({ name, diskFormat: "raw", containerFormat: "bare" });
  return id;
}

describe("an image that a command names", () => {
  it("is found by its name, and by the beginning of its id in capital letters", async () => {
    const name = `disk ${randomUUID()}`;
    const id = await namedImage(name);

    expect(await commandLine.answer("image", "show", name)).toMatchObject({ id });
    const beginning = id.slice(0, 20).toUpperCase();
    expect(await commandLine.answer("image", "get", beginning)).toMatchObject({ id });
  });

  it.each([
    ["deleted", ["image", "delete"]],
    ["unstaged", ["image", "unstage"]],
    ["cancelled", ["cancel"]],
    ["left by a store", ["drop-store", "--store", "local"]],
  ])("is not %s by a few digits, which may be a name", async (_, command) => {
    const id = await namedImage(`disk ${randomUUID()}`);

    const { exitCode, failure } = await commandLine.json(...command, id.slice(0, 7));

    expect(exitCode).toBe(2);
    expect(failure).toMatchObject({
      code: "BadRequest",
      hint: "Name the image by its id, by at least 8 digits of it, or by its name.",
    });
    expect(await commandLine.answer("image", "show", id)).toMatchObject({ status: "queued" });
  });

  it("is refused with the candidates if it may be several", async () => {
    const name = `disk ${randomUUID()}`;
    const first = await namedImage(name);
    const second = await namedImage(name);

    const { exitCode, failure } = await commandLine.json("image", "delete", name);

    expect({ exitCode, failure }).toEqual({
      exitCode: 2,
      failure: {
        code: "BadRequest",
        message: expect.stringMatching(
          new RegExp(
            `^Cannot choose one image by "${name}": 2 images have this name: ${second} \\(queued, created .*Z\\), ${first} \\(queued, created .*Z\\)$`,
          ),
        ) as unknown,
        hint: "Name one of them by its id, or by enough of its beginning.",
      },
    });
    expect(await stack.showImage(first)).toMatchObject({ status: "queued" });
  });

  it("is refused if there is none", async () => {
    expect(await commandLine.json("image", "show", "no such image")).toEqual({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "ImageNotFound",
        message: 'No image has the name or id "no such image", and no id begins with it',
        hint: "`image-import image list` lists the images.",
      },
    });
  });

  it("is steered by its full id, in any case, while the database is unreachable", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const DATABASE_URL = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;
    const away = new CommandLine({ dataDir, env: { DATABASE_URL } });

    expect(await away.answer("pause", imageId.toUpperCase())).toEqual({
      image_id: imageId,
      status: "pausing",
    });
    expect(await away.json("pause", imageId.slice(0, 8))).toMatchObject({
      exitCode: 1,
      failure: {
        code: "DatabaseUnavailable",
        message: expect.stringContaining(`Cannot look up "${imageId.slice(0, 8)}": `) as unknown,
        hint: expect.stringMatching(/A full id needs no catalogue\.$/) as unknown,
      },
    });
  });

  it("may be one of several, each of them once", async () => {
    const name = `disk ${randomUUID()}`;
    const first = await namedImage(name);
    const second = await namedImage(randomUUID());

    const result = await commandLine.json("image", "rm", name, second, first);

    expect(result).toEqual({
      exitCode: 0,
      answer: [
        { id: first, status: "deleted" },
        { id: second, status: "deleted" },
      ],
      failure: undefined,
    });
  });

  it("that fails does not stop the others", async () => {
    const first = await namedImage("one");
    const missing = randomUUID();
    const second = await namedImage("two");

    const result = await commandLine.json("image", "delete", first, missing, second);

    const failure = {
      code: "ImageNotFound",
      message: `No image has the id "${missing}"`,
      hint: "`image-import image list` lists the images.",
    };
    expect(result).toEqual({
      exitCode: 3,
      answer: [
        { id: first, status: "deleted" },
        { image_id: missing, failure: { ...failure, exitCode: 3 } },
        { id: second, status: "deleted" },
      ],
      failure: { ...failure, message: `1 of 3 images failed: "${missing}": ${failure.message}` },
    });
  });

  it("is not changed if another one is unknown", async () => {
    const id = await namedImage("kept");

    const { exitCode } = await commandLine.json("image", "delete", id, "no such image");

    expect(exitCode).toBe(3);
    expect(await stack.showImage(id)).toMatchObject({ status: "queued" });
  });

  it("may be one of several for pause, resume, status and cancel", async () => {
    const { image_id: running } = await stack.runningImport();
    const { image_id: failed } = await stack.failedImport();

    const statuses = await commandLine.answer("status", running, failed);
    const paused = await commandLine.json("pause", running, failed);
    const text = await commandLine.run("cancel", "--wait", running, failed);

    expect(statuses).toMatchObject([
      { image_id: running, state: "running" },
      { image_id: failed, state: "failed" },
    ]);
    expect(paused).toMatchObject({
      exitCode: 4,
      answer: [
        { image_id: running, status: "pausing" },
        { image_id: failed, failure: { code: "ImportEnded" } },
      ],
      failure: { code: "ImportEnded" },
    });
    expect(text.exitCode).toBe(4);
    expect(text.stdout).toContain(`image_id  ${running}\nstatus    cancelled\n`);
    expect(text.stdout).toContain(`image_id  ${failed}\nfailed    The import of image`);
  });

  it("may be one of several that are verified", async () => {
    const good = await stack.activeImage();
    const queued = await namedImage("not active");

    const result = await commandLine.json("image", "verify", good, queued);

    expect(result).toMatchObject({
      exitCode: 4,
      answer: [{ image_id: good, ok: true }],
      failure: { code: "ImageConflict" },
    });
  });
});

describe("image unstage", () => {
  it("removes the staged data, and the image is queued again", async () => {
    const imageId = await stack.stagedImage();

    const answer = await commandLine.answer("image", "unstage", imageId);

    expect(answer).toMatchObject({ id: imageId, status: "queued" });
    expect(await stack.traces(imageId)).toMatchObject({ image: "queued", staging: [], leases: [] });
  });
});

describe("task show", () => {
  it("finds a task by the beginning of its id", async () => {
    const { task_id: taskId } = await stack.failedImport();

    const answer = await commandLine.answer("task", "get", taskId.slice(0, 18).toUpperCase());

    expect(answer).toMatchObject({ id: taskId });
  });
});
