import { spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, it, onTestFinished } from "vitest";
import { BUILT_COMMAND_LINE, CommandLine } from "../../support/command-line.ts";
import { SharedStack, writeDisk } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

/** Files of random bytes with these names. */
function writeDisks(...names: readonly string[]): string[] {
  const directory = makeTemporaryDirectory();
  return names.map((name) => {
    const path = join(directory, name);
    writeFileSync(path, randomBytes(4096));
    return path;
  });
}

describe("import of several files", () => {
  it("imports each of them, and answers in their order", async () => {
    const [first = "", second = "", third = ""] = writeDisks("one.raw", "two.raw", "three.raw");

    const { exitCode, answer, failure } = await commandLine.json(
      ...["import", first, second, third, "--parallel", "2"],
    );

    expect({ exitCode, failure }).toEqual({ exitCode: 0, failure: undefined });
    expect(answer).toEqual(
      [first, second, third].map((source): unknown =>
        expect.objectContaining({ source, status: "active" }),
      ),
    );
    const ids = (answer as { image_id: string }[]).map(({ image_id: id }) => id);
    const images = await Promise.all(ids.map((id) => stack.showImage(id)));
    expect(images).toMatchObject([
      { name: "one.raw", status: "active" },
      { name: "two.raw", status: "active" },
      { name: "three.raw", status: "active" },
    ]);
  });

  it("continues after one that fails, and removes only the image of that one", async () => {
    const [good = "", other = ""] = writeDisks("good.raw", "other.raw");
    const missing = join(makeTemporaryDirectory(), "missing.raw");
    const owner = randomUUID();

    const result = await commandLine.json("import", good, missing, other, "--owner", owner);

    const failure = { code: "FileNotFound", message: `There is no file "${missing}"` };
    expect(result).toMatchObject({
      exitCode: 3,
      answer: [
        { source: good, status: "active" },
        { source: missing, failure },
        { source: other, status: "active" },
      ],
      failure: { ...failure, message: `1 of 3 images failed: "${missing}": ${failure.message}` },
    });
    const images = await (await stack.connect()).images.list({ owner });
    expect(images.map(({ name }) => name).sort()).toEqual(["good.raw", "other.raw"]);
  });

  it("ends with 1 if they fail for different reasons, and shows people one summary", async () => {
    const [good = "", wrong = ""] = writeDisks("good.raw", "wrong.qcow2");
    const missing = join(makeTemporaryDirectory(), "missing.qcow2");
    writeFileSync(wrong, "QFI\xfb and no more of a header");

    const { exitCode, stdout, stderr } = await commandLine.run("import", good, wrong, missing);

    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^SOURCE +IMAGE +RESULT +SIZE +TIME +MESSAGE\n/);
    const lines = stdout.split("\n").slice(1, 4);
    expect(lines[0]).toMatch(/good\.raw +[0-9a-f-]{36} +active +4 KiB +\S+ m?s$/);
    expect(lines[1]).toMatch(/wrong\.qcow2 +\S+ +failed +- /);
    expect(lines[2]).toMatch(/missing\.qcow2 +- +failed +- +.* There is no file/);
    expect(stderr).toContain("good.raw: image ");
    expect(stderr).toContain("error: 2 of 3 images failed: ");
  });
});

describe("import of several files that the user leaves", () => {
  it("fails for those that have not begun, which is worse than one that waits", async () => {
    const commandLine = await stack.withoutWorker();
    const leaving = commandLine.open("import", ...writeDisks("a.raw", "b.raw"), "--parallel", "1");
    await leaving.shows("a.raw: waiting for a worker");

    leaving.interrupt();
    const { exitCode, stdout, stderr } = await leaving.result();

    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/a\.raw +[0-9a-f-]{36} +waiting /);
    expect(stdout).toMatch(/b\.raw +- +failed .* The import was not begun/);
    expect(stderr).toContain("error: 1 of 2 images failed: ");
  });
});

describe("import --json-lines", () => {
  it("writes each change of an import, and its outcome in the last line", async () => {
    const { exitCode, lines, failure } = await commandLine.jsonLines("import", writeDisk());

    expect({ exitCode, failure }).toEqual({ exitCode: 0, failure: undefined });
    const events = lines.map(({ event }) => event);
    expect(events[0]).toBe("created");
    expect(events).toContain("accepted");
    expect(events.filter((event) => event === "succeeded")).toHaveLength(1);
    const { image_id: id, run_id: runId, task_id: taskId } = lines.at(-1) ?? {};
    expect(lines.at(-1)).toMatchObject({
      event: "succeeded",
      answer: { image_id: id, run_id: runId, task_id: taskId, status: "active" },
    });
    expect(lines).toMatchObject(lines.map(() => ({ image_id: id })));
  });

  it("names the source in each line of several, and has the list in the last", async () => {
    const [good = ""] = writeDisks("good.raw");
    const missing = join(makeTemporaryDirectory(), "missing.raw");

    const { exitCode, lines, failure } = await commandLine.jsonLines("import", good, missing);

    expect(exitCode).toBe(3);
    expect(failure).toMatchObject({ code: "FileNotFound" });
    expect(lines.slice(0, -1)).toMatchObject(
      lines.slice(0, -1).map(() => ({ source: expect.any(String) as string })),
    );
    expect(lines).toContainEqual(expect.objectContaining({ event: "succeeded", source: good }));
    expect(lines).toContainEqual(expect.objectContaining({ event: "failed", source: missing }));
    expect(lines.at(-1)).toMatchObject({
      event: "failed",
      answer: [{ source: good }, { source: missing, failure: { code: "FileNotFound" } }],
    });
  });

  it("ends with the acceptance with --detach", async () => {
    const { lines } = await commandLine.jsonLines("import", writeDisk(), "--detach");

    expect(lines.at(-1)).toMatchObject({ event: "accepted", answer: { status: "importing" } });
  });
});

describe("import -", () => {
  it.each([
    ["import", "-"],
    ["image", "stage", randomUUID(), "-"],
  ])("refuses a terminal as standard input: %s %s", async (...args) => {
    const { exitCode, output } = await atTerminal(args);

    expect(exitCode).toBe(2);
    expect(output).toContain("error: Cannot read an image from standard input: it is a terminal");
    expect(output).toContain("hint: Give the command the data with `< FILE` or a pipe");
  });

  it("imports standard input", async () => {
    const file = writeDisk();
    const name = randomUUID();
    const fed = new CommandLine({ dataDir, prefix: ["sh", "-c", 'exec "$@" < "$0"', file] });

    const answer = await fed.answer("import", "-", "--name", name);

    expect(answer).toMatchObject({ status: "active", size: 4096 });
    const [image] = await (await stack.connect()).images.list({ name });
    expect(image).toMatchObject({ status: "active", disk_format: "raw", size: 4096 });
  });
});

/** Runs a command whose standard input, output and error are a terminal. */
async function atTerminal(
  args: readonly string[],
): Promise<{ readonly exitCode: number | null; readonly output: string }> {
  const command = [process.execPath, BUILT_COMMAND_LINE, ...args].join(" ");
  const child = spawn("script", ["-qfec", command, "/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(() => {
    child.kill();
  });
  const [output] = await Promise.all([text(child.stdout), once(child, "close")]);
  return { exitCode: child.exitCode, output };
}
