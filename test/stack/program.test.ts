import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { isRunning } from "../../src/processes/process-table.ts";
import { Program, waitUntilReady, type ProgramOptions } from "../../src/stack/program.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

function start(options: Partial<ProgramOptions> & Pick<ProgramOptions, "command">): Program {
  const program = new Program({
    name: "example",
    env: process.env,
    logFile: join(makeTemporaryDirectory(), "example.log"),
    stop: { signal: "SIGTERM", withinMs: 5_000 },
    ...options,
  });
  onTestFinished(async () => program.stop());
  return program;
}

describe("Program", () => {
  it("appends what the program writes to its log", async () => {
    const logFile = join(makeTemporaryDirectory(), "example.log");

    await start({ command: ["sh", "-c", "echo one"], logFile }).ended;
    await start({ command: ["sh", "-c", "echo two >&2"], logFile }).ended;

    expect(readFileSync(logFile, "utf8")).toBe("one\ntwo\n");
  });

  it("runs the program when its log is too long and cannot be rotated", async () => {
    const logFile = join(makeTemporaryDirectory(), "example.log");
    writeFileSync(logFile, "");
    truncateSync(logFile, 17 * 1024 * 1024);
    mkdirSync(`${logFile}.new`);

    expect(await start({ command: ["true"], logFile }).ended).toBe("exit code 0");
  });

  it("reports how the program ended", async () => {
    expect(await start({ command: ["sh", "-c", "exit 3"] }).ended).toBe("exit code 3");
    expect(await start({ command: ["sh", "-c", "kill -9 $$"] }).ended).toBe("signal SIGKILL");
    expect(await start({ command: ["/nowhere/at-all"] }).ended).toBe(
      "spawn /nowhere/at-all ENOENT",
    );
  });

  it("runs the program in a session of its own, out of reach of the terminal's Ctrl-C", async () => {
    const program = start({ command: ["sleep", "60"] });
    const pid = program.process?.pid ?? 0;

    const [, , , session] =
      readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];

    expect(Number(session)).toBe(pid);
  });

  it("is ready when the program reports that through its channel", async () => {
    const program = start({
      command: [
        process.execPath,
        "-e",
        "process.send({ ready: true }); setInterval(() => 0, 1000)",
      ],
      hasChannel: true,
    });

    await waitUntilReady(program, () => program.isReady);

    expect(program.isReady).toBe(true);
  });
});

describe("Program.stop()", () => {
  it("returns when the process has ended", async () => {
    const program = start({ command: ["sleep", "60"] });

    await program.stop();

    expect(program.process && isRunning(program.process)).toBe(false);
  });

  it("does nothing when the program has ended before", async () => {
    const program = start({ command: ["true"] });
    await program.ended;

    await program.stop();

    expect(await program.ended).toBe("exit code 0");
  });
});

describe("waitUntilReady()", () => {
  it("shows the end of the log when the program ends before it is ready", async () => {
    const program = start({ command: ["sh", "-c", "echo no such port; exit 7"] });

    const ready = waitUntilReady(program, () => false);

    await expect(ready).rejects.toThrow(
      `Cannot start example: it ended: exit code 7. The end of its log (${program.logFile}):\nno such port`,
    );
  });

  it("fails when the program is not ready in time", async () => {
    const program = start({ command: ["sleep", "60"] });

    const ready = waitUntilReady(program, () => false, { limitMs: 100 });

    await expect(ready).rejects.toThrow("Cannot start example: it was not ready within 0.1 s");
  });

  it("asks again when the check for readiness throws", async () => {
    const program = start({ command: ["sleep", "60"] });
    let asked = 0;

    await waitUntilReady(program, () => {
      asked += 1;
      if (asked < 3) throw new Error("connection refused");
      return true;
    });

    expect(asked).toBe(3);
  });

  it("stops waiting when it is interrupted", async () => {
    const program = start({ command: ["sleep", "60"] });
    const interruption = AbortSignal.timeout(100);

    const ready = waitUntilReady(program, () => false, { signal: interruption });

    await expect(ready).rejects.toThrow(expect.objectContaining({ name: "TimeoutError" }));
  });
});
