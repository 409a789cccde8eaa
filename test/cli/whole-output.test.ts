import { execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { bareEnvironment, BUILT_COMMAND_LINE, CommandLine } from "../support/command-line.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const stack = new SharedStack();

/** Commands whose output goes where a script of bash leads it. */
function writing(script: string, ...names: readonly string[]): CommandLine {
  return new CommandLine({
    dataDir: stack.dataDir,
    prefix: ["bash", "-c", `set -o pipefail; ${script}`, ...names],
  });
}

describe("output that cannot be written", () => {
  const intoFull = writing('"$@" > /dev/full', "bash");

  it.each([["completion", "bash"], ["--help"], ["image", "list", "-f", "json"]])(
    "fails: %s %s",
    async (...args) => {
      const { exitCode, stderr } = await intoFull.run(...args);

      expect({ exitCode, stderr }).toEqual({
        exitCode: 1,
        stderr: expect.stringMatching(
          /^error: Cannot write the answer: ENOSPC.*\nhint: Write it to another place.*\n$/,
        ) as unknown,
      });
    },
  );

  it("is one document for programs", async () => {
    expect(await intoFull.json("completion", "bash")).toMatchObject({
      exitCode: 1,
      failure: { code: "NoSpace" },
    });
  });

  it("does not stop the command where only its notes are lost", async () => {
    const { exitCode, stdout } = await writing('"$@" 2> /dev/full', "bash").run(
      ...["image", "show", "none"],
    );

    expect({ exitCode, stdout }).toEqual({ exitCode: 3, stdout: "" });
  });

  it("is complete, or the command fails, where a file may have no more bytes", async () => {
    const file = join(makeTemporaryDirectory(), "completion");
    const limited = writing('ulimit -f 8; "$@" > "$0"', file);

    const { exitCode, stderr } = await limited.run("completion", "bash");

    expect(readFileSync(file)).toHaveLength(8192);
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringContaining("error: Cannot write the answer: EFBIG") as unknown,
    });
  });
});

/** Writes each line of its input to its output. */
const WRITING_LINES = `
import { createInterface } from "node:readline";
import { writeWholeOutput } from "#dist/cli/whole-output.js";
writeWholeOutput();
process.stdout.on("error", ({ code }) => process.stderr.write(code + "\\n"));
for await (const line of createInterface({ input: process.stdin })) process.stdout.write(line);
`;

it("takes the next lines of a long command when a full disk has room again", async () => {
  const file = join(makeTemporaryDirectory(), "lines");
  const node = [process.execPath, "--input-type=module", "-e", WRITING_LINES];
  const child = spawn("bash", ["-c", 'ulimit -S -f 1; exec "$@" > "$0"', file, ...node], {
    env: bareEnvironment(),
    stdio: ["pipe", "ignore", "pipe"],
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  child.stdin.write(`${"a".repeat(2000)}\n`);
  const [failure] = (await once(child.stderr, "data")) as [Buffer];
  await promisify(execFile)("prlimit", ["--pid", String(child.pid), "--fsize=unlimited"]);
  child.stdin.end("bbb\n");
  await once(child, "close");

  expect(failure.toString()).toBe("EFBIG\n");
  expect(readFileSync(file, "utf8")).toBe(`${"a".repeat(1024)}bbb`);
});

describe("output without a reader", () => {
  it("ends a command that only shows something quietly", async () => {
    const closed = writing('"$@" | exec 0<&-', "bash");

    expect(await closed.run("completion", "bash")).toEqual({
      exitCode: 0,
      stdout: "",
      stderr: "",
    });
  });

  it("undoes an import that has begun", async () => {
    const id = randomUUID();
    const args = ["import", "-", "--id", id, "--disk-format", "raw", "--json-lines"];
    const child = spawn(
      process.execPath,
      [BUILT_COMMAND_LINE, ...args, "--data-dir", stack.dataDir],
      { env: bareEnvironment(), stdio: ["pipe", "pipe", "pipe"] },
    );
    onTestFinished(() => {
      child.kill("SIGKILL");
    });
    const failed = text(child.stderr);
    child.stdin.on("error", () => undefined);
    await once(child.stdout, "data");
    child.stdout.destroy();
    const feeding = setInterval(() => child.stdin.write(Buffer.alloc(128 * 1024, 1)), 20);
    await once(child, "close");
    clearInterval(feeding);

    expect(child.exitCode).toBe(1);
    expect(JSON.parse(await failed)).toMatchObject({ code: "Interrupted", image: "removed" });
    const gone = await stack.commandLine.json("image", "show", id);
    expect(gone.failure).toMatchObject({ code: "ImageNotFound" });
  });
});
