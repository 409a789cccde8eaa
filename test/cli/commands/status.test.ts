import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { ImportReport } from "../../../src/client/import-report.ts";
import { findFreePort } from "../../../src/stack/ports.ts";
import { CommandLine, linesOf } from "../../support/command-line.ts";
import { HELD_BYTES, SharedStack } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

/** A command line that knows Temporal's address, and nothing else. */
function temporalAlone(): CommandLine {
  return new CommandLine({
    dataDir: join(makeTemporaryDirectory(), "none"),
    env: { TEMPORAL_ADDRESS: stack.file.temporal_address },
  });
}

describe("status", () => {
  it("reports the phase, the stores and the task of a running import", async () => {
    const { image_id: imageId, task_id: taskId, run_id: runId } = await stack.runningImport();

    const { exitCode, answer, failure } = await commandLine.json("status", imageId);

    const { live, ...report } = answer as ImportReport;
    expect({ exitCode, failure }).toEqual({ exitCode: 0, failure: undefined });
    expect(report).toMatchObject({
      image_id: imageId,
      status: "importing",
      task: { id: taskId, image_id: imageId, run_id: runId, status: "processing", message: "" },
    });
    expect(live).toMatchObject({
      image_id: imageId,
      task_id: taskId,
      method: "glance-direct",
      phase: "storing",
      pause: "running",
      size: HELD_BYTES,
      stores: { slow: { state: "copying" } },
      detected_format: "raw",
      checks: { one_format: "pass", declared_format: "pass" },
      message: null,
    });
  });

  it("shows people a running import at one look", async () => {
    const { image_id: imageId, task_id: taskId, run_id: runId } = await stack.runningImport();

    const { exitCode, stdout, stderr } = await commandLine.run("status", imageId);

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const text = stdout
      .replace(/^(web_ui|started|duration) .*$/gm, "$1 …")
      .replace(/^(store slow).*$/m, "$1 …");
    expect(text).toBe(
      [
        `image_id    ${imageId}`,
        "status      importing",
        "import      running",
        `task        ${taskId} (processing)`,
        `run_id      ${runId}`,
        "web_ui …",
        "phase       storing",
        "started …",
        "duration …",
        "size        4 MiB",
        "format      raw",
        "store slow …",
        "",
      ].join("\n"),
    );
  });

  it("reports an import that succeeded", async () => {
    const imageId = await stack.activeImage();

    const answer = await commandLine.answer("status", imageId);

    expect(answer).toMatchObject({
      image_id: imageId,
      status: "active",
      task: { status: "success", result: { image_id: imageId }, message: "" },
      live: { phase: "done", stores: { local: { state: "stored" } } },
    });
  });

  it("reports the import when a later start was refused", async () => {
    const imageId = await stack.activeImage();
    const refused = await commandLine.json("start", imageId);

    const { stdout } = await commandLine.run("status", imageId);

    expect(refused.exitCode).toBe(4);
    expect(stdout).toMatch(/^import +succeeded$/m);
    expect(stdout).toMatch(/^phase +done$/m);
    expect(stdout).toMatch(/^size +4 KiB$/m);
    expect(stdout).toMatch(/^stores +local$/m);
  });

  it("reports a copy as removed once it was removed", async () => {
    const imageId = await stack.activeImage("local", "slow");
    await commandLine.answer("image", "remove-copy", imageId, "--store", "slow", "--wait");

    const { stdout } = await commandLine.run("status", imageId);

    expect(stdout).toMatch(/^store slow +removed$/m);
    expect(stdout).toMatch(/^stores +local$/m);
  });

  it("reports an import that failed, and why", async () => {
    const { image_id: imageId, task_id: taskId } = await stack.failedImport();

    const answer = await commandLine.answer("status", imageId);

    const message =
      'Error: FormatMismatch: verify: Cannot accept the image as "qcow2": its bytes are "raw"';
    expect(answer).toMatchObject({
      image_id: imageId,
      status: "uploading",
      task: { id: taskId, status: "failure", result: null, message },
      live: { phase: "failed", message },
      failure: {
        code: "FormatMismatch",
        hint: expect.stringContaining("`--disk-format`") as string,
        step: "verify",
      },
    });
  });

  it("reports the newest of several imports", async () => {
    const { image_id: imageId } = await stack.failedImport();
    const client = await stack.connect();
    await client.images.change(imageId, { diskFormat: "raw" });
    const { task_id: taskId } = await client.imports.start(imageId);
    await client.imports.wait(imageId);

    const answer = await commandLine.answer("status", imageId);

    expect(answer).toMatchObject({ status: "active", task: { id: taskId, status: "success" } });
  });

  it("reports the state in the catalogue when Temporal is unreachable", async () => {
    const imageId = await stack.activeImage();
    const TEMPORAL_ADDRESS = `127.0.0.1:${await findFreePort()}`;
    const away = new CommandLine({ dataDir, env: { TEMPORAL_ADDRESS } });

    const answer = await away.answer("status", imageId);

    expect(answer).toMatchObject({
      image_id: imageId,
      status: "active",
      task: { status: "success" },
      live: null,
    });
  });

  it("reports the state of the run when no catalogue is configured", async () => {
    const imageId = await stack.activeImage();

    const answer = await temporalAlone().answer("status", imageId);

    expect(answer).toMatchObject({
      image_id: imageId,
      status: null,
      task: null,
      live: { image_id: imageId, phase: "done" },
    });
  });

  it.each(["status", "watch"])("reports that an image was never imported: %s", async (command) => {
    const imageId = await stack.stagedImage();

    expect(await commandLine.json(command, imageId)).toEqual({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "ImportNotFound",
        message: `No import of image "${imageId}" is on record: none was started, or its record has expired`,
        hint: "`image-import start <image-id>` starts an import.",
        image_id: imageId,
      },
    });
  });

  it.each(["status", "watch"])("names an image that does not exist: %s", async (command) => {
    expect(await commandLine.json(command, randomUUID())).toMatchObject({
      exitCode: 3,
      answer: undefined,
      failure: { code: "ImageNotFound" },
    });
  });

  it.each(["status", "watch"])("reports that the database is unreachable: %s", async (command) => {
    const DATABASE_URL = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;
    const away = new CommandLine({ dataDir, env: { DATABASE_URL } });

    expect(await away.json(command, randomUUID())).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "DatabaseUnavailable",
        hint: "Check Postgres and DATABASE_URL; `image-import doctor` helps.",
      },
    });
  });
});

describe("watch", () => {
  it("gives imports of images with the same name other labels", async () => {
    const client = await stack.connect();
    const name = `same ${randomUUID()}`;
    for (const imageId of [await stack.heldImage(), await stack.heldImage()]) {
      await client.images.change(imageId, { name });
      await client.imports.start(imageId, { stores: ["slow"] });
      onTestFinished(async () => {
        await client.imports.cancel(imageId, { wait: true });
      });
    }

    const watching = commandLine.open("watch", "--no-progress");

    await watching.shows(`${name} verifying`);
    await watching.shows(`${name} (`);
  });

  it("ends as a running import ends", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.json("watch", imageId);
    // It says nothing before the end; the one that a person started later does.
    await commandLine.open("watch", imageId).shows("verifying ");
    stack.release(imageId);

    const watched = await watching;

    expect(watched).toMatchObject({
      exitCode: 0,
      answer: { image_id: imageId, status: "active", task: { status: "success" } },
      failure: undefined,
    });
  });

  it("ends with exit code 1 when the import has failed", async () => {
    const { image_id: imageId, run_id: runId, task_id: taskId } = await stack.failedImport();

    expect(await commandLine.json("watch", imageId)).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "FormatMismatch",
        message: 'verify: Cannot accept the image as "qcow2": its bytes are "raw"',
        // The hint of the check that failed, not that of the table.
        hint: expect.stringContaining("`--disk-format`") as string,
        step: "verify",
        image_id: imageId,
        run_id: runId,
        task_id: taskId,
      },
    });
  });

  it("shows the same hint as `status` does", async () => {
    const { image_id: imageId } = await stack.failedImport();

    const [watched, { stdout }] = await Promise.all([
      commandLine.json("watch", imageId),
      commandLine.run("status", imageId),
    ]);

    const { hint } = watched.failure as { readonly hint: string };
    expect(stdout).toMatch(/^hint +\S/m);
    expect(stdout).toContain(hint);
  });

  it("ends with exit code 1 when the import is cancelled meanwhile", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.json("watch", imageId);

    await commandLine.answer("cancel", imageId, "--wait");

    expect(await watching).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: { code: "ImportCancelled", message: 'store "slow": it was cancelled' },
    });
  });

  it("ends with exit code 1 when the run is terminated meanwhile, and reports that", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.json("watch", imageId);

    await stack.terminate(imageId);

    expect(await watching).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "ImportAbandoned",
        // A reconciliation that ran in between has recorded the end in other words.
        message: expect.stringMatching(/its run was (terminated|ended without an undo)/) as string,
      },
    });
  });

  it("ends with exit code 1 when Temporal has lost the run", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const empty = await stack.withoutWorker();

    expect(await empty.json("watch", imageId)).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "ImportAbandoned",
        message: expect.stringContaining("Temporal has no run of this import") as string,
      },
    });
  });

  it("ends with exit code 6 when a person leaves it", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.open("watch", imageId);
    await watching.shows("verifying ");

    watching.interrupt();

    expect(await watching.result()).toMatchObject({
      exitCode: 6,
      stdout: expect.stringMatching(/^import +running$/m) as string,
    });
  });

  it("follows all imports that run when no image is named", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.open("watch");
    await watching.shows(`${imageId} verifying`);

    stack.release(imageId);
    await watching.shows(`${imageId} store slow  stored in `);
    watching.interrupt();

    expect(await watching.result()).toMatchObject({ exitCode: 0, stdout: "" });
  });

  it("shows people each phase that ended meanwhile", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.open("watch", imageId);
    await watching.shows("verifying ");
    stack.release(imageId);

    const { exitCode, stdout, stderr } = await watching.result();

    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^accepting .*\nverifying .*\n(store slow .*\n)*storing +\d.*\n/);
    expect(stdout).toMatch(/^phase +done$/m);
  });

  it("needs nothing but Temporal", async () => {
    const { image_id: imageId } = await stack.failedImport();

    expect(await temporalAlone().json("watch", imageId)).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: { code: "FormatMismatch" },
    });
  });
});

describe("watch --json-lines", () => {
  it("writes a line for each change, and the report in the last", async () => {
    const { image_id: imageId, run_id: runId, task_id: taskId } = await stack.runningImport();
    const watching = commandLine.open("watch", imageId, "--json-lines");
    await watching.writes('"copying"');
    stack.release(imageId);

    const { exitCode, lines, failure } = linesOf(await watching.result());

    expect({ exitCode, failure }).toEqual({ exitCode: 0, failure: undefined });
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as unknown;
    const about = { time, image_id: imageId, run_id: runId, task_id: taskId };
    expect(lines).toEqual(lines.map((): unknown => expect.objectContaining(about)));
    expect(lines).toContainEqual(
      expect.objectContaining({ event: "store", store: "slow", state: "stored" }),
    );
    expect(lines.at(-1)).toMatchObject({
      event: "succeeded",
      answer: { image_id: imageId, status: "active", state: "succeeded" },
    });
  });

  it("writes the failure in the last line, and on stderr", async () => {
    const { image_id: imageId, run_id: runId, task_id: taskId } = await stack.failedImport();

    const { exitCode, lines, failure } = await commandLine.jsonLines("watch", imageId);

    const about = { image_id: imageId, run_id: runId, task_id: taskId };
    expect(failure).toMatchObject({ code: "FormatMismatch", step: "verify", ...about });
    expect(exitCode).toBe(1);
    expect(lines).toMatchObject([{ event: "failed", ...about, error: failure }]);
  });

  it("writes that the import was cancelled", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.jsonLines("watch", imageId);

    await commandLine.answer("cancel", imageId, "--wait");

    expect((await watching).lines.at(-1)).toMatchObject({
      event: "cancelled",
      error: { code: "ImportCancelled", image_id: imageId },
    });
  });

  it("writes that the user has left", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.open("watch", imageId, "--json-lines");
    await watching.writes('"copying"');

    watching.interrupt();

    const { exitCode, lines } = linesOf(await watching.result());
    expect(exitCode).toBe(6);
    expect(lines.at(-1)).toMatchObject({ event: "left", answer: { state: "running" } });
  });

  it("writes the end of each import when no image is named", async () => {
    const { image_id: imageId } = await stack.runningImport();
    const watching = commandLine.open("watch", "--json-lines");
    await watching.writes(imageId);

    stack.release(imageId);
    await watching.writes('"succeeded"');
    watching.interrupt();

    const { exitCode, lines } = linesOf(await watching.result());
    expect(exitCode).toBe(0);
    expect(lines).toContainEqual(
      expect.objectContaining({ event: "succeeded", image_id: imageId }),
    );
    expect(lines.at(-1)).toMatchObject({ event: "left" });
  });
});

describe("status --watch", () => {
  it("follows several imports, and answers as status does", async () => {
    const [{ image_id: running }, { image_id: failed }] = await Promise.all([
      stack.runningImport(),
      stack.failedImport(),
    ]);
    const watching = commandLine.open("status", running, failed, "--watch");
    await watching.shows(`${running} verifying`);
    stack.release(running);

    const { exitCode, stdout } = await watching.result();

    expect(exitCode).toBe(0);
    expect(stdout.match(/^import +\S+$/gm)?.map((line) => line.split(/ +/)[1])).toEqual([
      "succeeded",
      "failed",
    ]);
  });

  it("writes the end of each image, and then the whole, with --json-lines", async () => {
    const [active, { image_id: failed }] = await Promise.all([
      stack.activeImage(),
      stack.failedImport(),
    ]);

    const { exitCode, lines } = await commandLine.jsonLines("status", active, failed);

    expect(exitCode).toBe(0);
    expect(lines).toContainEqual(expect.objectContaining({ event: "failed", image_id: failed }));
    expect(lines.at(-1)).toMatchObject({
      event: "failed",
      answer: [
        { image_id: active, state: "succeeded" },
        { image_id: failed, state: "failed" },
      ],
    });
  });
});
