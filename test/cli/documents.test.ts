import { randomBytes } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { z } from "zod";
import { eventDocument } from "../../src/cli/documents/event-document.ts";
import { failureDocument } from "../../src/cli/documents/failure-document.ts";
import { historyDocument } from "../../src/cli/documents/history-document.ts";
import { imageDocument } from "../../src/cli/documents/image-document.ts";
import { importDocument } from "../../src/cli/documents/import-document.ts";
import { statusDocument } from "../../src/cli/documents/status-document.ts";
import { taskDocument } from "../../src/cli/documents/task-document.ts";
import { SharedStack, writeDisk } from "../support/shared-stack.ts";

const stack = new SharedStack();
const { commandLine } = stack;

/** The mistakes of a document, in words; none if it keeps its schema. */
function mistakes(schema: z.ZodType, document: unknown): readonly string[] {
  const { error } = schema.safeParse(document);
  return (error?.issues ?? []).map(({ path, message }) => `${path.join(".")}: ${message}`);
}

describe("the documents of commands", () => {
  it("are those of an import, its image and its task", async () => {
    const { lines } = await commandLine.jsonLines("import", writeDisk());
    const { image_id: imageId = "", task_id: taskId = "", answer } = lines.at(-1) ?? {};

    expect(lines.flatMap((line) => mistakes(eventDocument, line))).toEqual([]);
    expect(mistakes(importDocument, answer)).toEqual([]);
    const image = await commandLine.answer("image", "show", String(imageId));
    expect(mistakes(imageDocument, image)).toEqual([]);
    const history = await commandLine.answer("image", "history", String(imageId));
    expect(history).toHaveLength(1);
    expect(mistakes(historyDocument, history)).toEqual([]);
    const task = await commandLine.answer("task", "show", String(taskId));
    expect(mistakes(taskDocument, task)).toEqual([]);
    const report = await commandLine.answer("status", String(imageId));
    expect(mistakes(statusDocument, report)).toEqual([]);
  });

  it("are those of an image whose id has any hex digits", async () => {
    const id = `11111111-2222-3333-4444-${randomBytes(6).toString("hex")}`;

    const image = await commandLine.answer("image", "create", "--id", id, "--name", "any digits");
    await commandLine.run("image", "stage", id, writeDisk());
    const { failure } = await commandLine.json("start", id, "--wait");
    const report = await commandLine.answer("status", id);

    expect(mistakes(imageDocument, image)).toEqual([]);
    expect(failure).toMatchObject({ image_id: id });
    expect(mistakes(failureDocument, failure)).toEqual([]);
    expect(mistakes(statusDocument, report)).toEqual([]);
  });

  it("are those of lists", async () => {
    const imageId = await stack.activeImage();

    const images = (await commandLine.answer("image", "list", "--limit", "5")) as unknown[];
    const tasks = (await commandLine.answer("task", "list", "--image", imageId)) as unknown[];

    expect(images.flatMap((image) => mistakes(imageDocument, image))).toEqual([]);
    expect(tasks).toHaveLength(1);
    expect(tasks.flatMap((task) => mistakes(taskDocument, task))).toEqual([]);
  });

  it("are those of imports that are accepted, run, and are cancelled", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.open("watch", imageId, "--json-lines");
    await watching.writes('"copying"');

    const report = await commandLine.answer("status", imageId);
    await commandLine.answer("cancel", imageId, "--wait");
    const { exitCode, stderr } = await watching.result();

    expect(mistakes(statusDocument, report)).toEqual([]);
    expect(exitCode).toBe(1);
    expect(mistakes(failureDocument, JSON.parse(stderr))).toEqual([]);
  });

  it("are those of several imports, of which one failed", async () => {
    const { exitCode, answer, failure } = await commandLine.json(
      ...["import", writeDisk(), "/no/such.raw"],
    );

    expect(exitCode).toBe(3);
    expect(mistakes(importDocument, answer)).toEqual([]);
    expect(mistakes(failureDocument, failure)).toEqual([]);
  });

  it("are those of a failed import", async () => {
    const { image_id: imageId, task_id: taskId } = await stack.failedImport();

    const report = await commandLine.answer("status", imageId);
    const task = await commandLine.answer("task", "show", taskId);
    const { failure } = await commandLine.json("watch", imageId);

    expect(mistakes(statusDocument, report)).toEqual([]);
    expect(mistakes(taskDocument, task)).toEqual([]);
    expect(mistakes(failureDocument, failure)).toEqual([]);
  });

  it("reject a field that the schema does not name", () => {
    const failure = { code: "ImageBusy", message: "Cannot start it", hint: "Wait." };

    expect(mistakes(failureDocument, failure)).toEqual([]);
    expect(mistakes(failureDocument, { ...failure, surprise: true })).not.toEqual([]);
  });
});
