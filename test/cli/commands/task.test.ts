import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { TaskView } from "../../../src/client/image-view.ts";
import { findFreePort } from "../../../src/stack/ports.ts";
import { CommandLine } from "../../support/command-line.ts";
import { SharedStack } from "../../support/shared-stack.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

const someTime = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as unknown;

/** An image with two tasks: one that failed, and after it one that succeeded. */
async function imageWithTwoTasks() {
  const client = await stack.connect();
  const failed = await stack.failedImport();
  const { image_id: imageId } = failed;
  await client.images.change(imageId, { diskFormat: "raw" });
  const succeeded = await client.imports.start(imageId, { stores: ["local"] });
  await client.imports.wait(imageId);
  return { imageId, failed, succeeded };
}

describe("task list", () => {
  it("lists the tasks of an image, newest first", async () => {
    const { imageId, failed, succeeded } = await imageWithTwoTasks();

    const answer = await commandLine.answer("task", "list", "--image", imageId);

    const tasks = (answer as TaskView[]).map(({ id, status }) => [id, status]);
    expect(tasks).toEqual([
      [succeeded.task_id, "success"],
      [failed.task_id, "failure"],
    ]);
  });

  it("lists at most the requested number", async () => {
    const { imageId, succeeded } = await imageWithTwoTasks();

    const answer = await commandLine.answer("task", "list", "--image", imageId, "--limit", "1");

    expect(answer).toEqual([expect.objectContaining({ id: succeeded.task_id })]);
  });

  it("lists those of all images", async () => {
    const { task_id: taskId } = await stack.failedImport();

    const answer = await commandLine.answer("task", "list", "--limit", "10000");

    expect(answer).toContainEqual(expect.objectContaining({ id: taskId }));
  });

  it("chooses by status, and has the chosen columns", async () => {
    const { imageId, failed } = await imageWithTwoTasks();

    const { stdout } = await commandLine.run(
      ...["task", "ls", "--image", imageId.slice(0, 20), "--status", "failure"],
      ...["-c", "id,code", "-f", "jsonl"],
    );

    expect(stdout).toBe(`{"id":"${failed.task_id}","code":"FormatMismatch"}\n`);
  });

  it("is an empty list for an image that was never imported", async () => {
    const imageId = await stack.queuedImage();

    expect(await commandLine.json("task", "list", "--image", imageId)).toEqual({
      exitCode: 0,
      answer: [],
      failure: undefined,
    });
  });

  it("shows people a table, with the reason of a failure", async () => {
    const { image_id: imageId, task_id: taskId } = await stack.failedImport();

    const { exitCode, stdout, stderr } = await commandLine.run("task", "list", "--image", imageId);

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/^ID +IMAGE +STATUS +AGE +MESSAGE\n/);
    expect(stdout).toMatch(
      new RegExp(
        `\n${taskId}  ${imageId}  failure  \\d+ [sm]  Error: FormatMismatch: verify: Cannot accept the image as "qcow2": its bytes are "raw"\n$`,
      ),
    );
  });
});

describe("task show", () => {
  it("shows a task that succeeded", async () => {
    const { imageId, succeeded } = await imageWithTwoTasks();

    const result = await commandLine.json("task", "show", succeeded.task_id);

    expect(result).toEqual({
      exitCode: 0,
      answer: {
        id: succeeded.task_id,
        type: "api_image_import",
        status: "success",
        image_id: imageId,
        owner: null,
        user_id: null,
        workflow_id: `image-import/${imageId}`,
        run_id: succeeded.run_id,
        request_id: expect.stringMatching(/^[0-9a-f-]{36}$/) as unknown,
        input: {
          image_id: imageId,
          method: "glance-direct",
          stores: ["local"],
          backend: ["local"],
          request_id: expect.stringMatching(/^[0-9a-f-]{36}$/) as unknown,
        },
        result: { image_id: imageId },
        message: "",
        failure: null,
        created_at: someTime,
        updated_at: someTime,
        expires_at: someTime,
      },
      failure: undefined,
    });
  });

  it("shows people why a task failed", async () => {
    const { task_id: taskId } = await stack.failedImport();

    const { exitCode, stdout, stderr } = await commandLine.run("task", "show", taskId);

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(new RegExp(`^id +${taskId}\n`));
    expect(stdout).toContain(
      '\nmessage      Error: FormatMismatch: verify: Cannot accept the image as "qcow2": its bytes are "raw"\n',
    );
  });

  it("names a task that does not exist", async () => {
    const taskId = randomUUID();

    expect(await commandLine.json("task", "show", taskId)).toEqual({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "TaskNotFound",
        task_id: taskId,
        message: `No task has the id "${taskId}"`,
        hint: "`image-import task list` lists the tasks.",
      },
    });
  });
});

describe.each([["list"], ["show", randomUUID()]])("task %s", (...args) => {
  it("reports that the database is unreachable", async () => {
    const DATABASE_URL = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;
    const away = new CommandLine({ dataDir, env: { DATABASE_URL } });

    expect(await away.json("task", ...args)).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: { code: "DatabaseUnavailable" },
    });
  });
});
