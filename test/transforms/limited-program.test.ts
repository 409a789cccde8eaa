import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import {
  startLimited,
  whyNotRunnable,
  type ProgramLimits,
} from "../../src/transforms/limited-program.ts";
import { runProgram } from "../support/child-program.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { PATIENCE } from "../support/patience.ts";

const LIMITS: ProgramLimits = { memoryBytes: 256 * MIB, cpuSeconds: 60, fileBytes: MIB };

async function run(
  command: string,
  args: readonly string[],
  limits: Partial<ProgramLimits> = {},
): Promise<{ readonly exitCode: number | null; readonly killedBy: string | null; stdout: string }> {
  const signal = new AbortController().signal;
  const all = { ...LIMITS, ...limits };
  const running = await startLimited({ command, arguments: args, limits: all, signal });
  running.stdin.end();
  const [stdout, { exitCode, killedBy }] = await Promise.all([text(running.stdout), running.ended]);
  return { exitCode, killedBy, stdout };
}

/** True if a namespace without a network can be created here. */
function mayIsolate(): boolean {
  for (const options of [["--net"], ["--user", "--map-current-user", "--net"]]) {
    try {
      execFileSync("unshare", [...options, "true"], { stdio: "ignore" });
      return true;
    } catch {
      // The next one is tried.
    }
  }
  return false;
}

/** The processes whose command line has this word. */
function processesWith(word: string): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(word);
      } catch {
        return false;
      }
    })
    .map(Number);
}

describe("startLimited()", () => {
  it("passes a program its arguments as they are", async () => {
    expect(await run("printf", ["%s|", "a b", "$HOME", "`id`", "*"])).toEqual({
      exitCode: 0,
      killedBy: null,
      stdout: "a b|$HOME|`id`|*|",
    });
  });

  it("sets its limits", async () => {
    const { stdout } = await run("sh", [
      "-c",
      "ulimit -v; ulimit -t; ulimit -f; ulimit -c; ulimit -n",
    ]);

    // In KiB, seconds, blocks of 512 bytes, and files.
    expect(stdout.split("\n")).toEqual(["262144", "60", "2048", "0", "64", ""]);
  });

  it("limits its processor time", async () => {
    expect(await run("sh", ["-c", "while :; do :; done"], { cpuSeconds: 1 })).toMatchObject({
      killedBy: "SIGXCPU",
    });
  });

  it("hides the environment of the worker from it", async () => {
    vi.stubEnv("DATABASE_URL", "postgres://secret");
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });

    const names = (await run("env", [])).stdout.split("\n").map((line) => line.split("=")[0]);

    expect(names).not.toContain("DATABASE_URL");
    expect(names).not.toContain("HOME");
  });

  it.skipIf(!mayIsolate())("removes the network from it", async () => {
    const { stdout } = await run("cat", ["/proc/self/net/dev"]);

    const interfaces = stdout
      .split("\n")
      .slice(2)
      .flatMap((line) => line.split(":")[0]?.trim() ?? []);
    expect(interfaces.filter((name) => name !== "" && name !== "lo")).toEqual([]);
    expect((await run("cat", ["/proc/self/net/route"])).stdout.trim().split("\n")).toHaveLength(1);
  });

  it("reports the missing programs when it cannot be limited", async () => {
    const signal = new AbortController().signal;
    const running = await startLimited({ command: "true", arguments: [], limits: LIMITS, signal });
    await running.ended;
    vi.stubEnv("PATH", makeTemporaryDirectory());
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });

    const failure = await failureOf(
      startLimited({ command: "true", arguments: [], limits: LIMITS, signal }).then(
        ({ ended }) => ended,
      ),
    );

    expect(failure.code).toBe("BadConfiguration");
    expect(failure.hint).toContain("util-linux");
    expect(await whyNotRunnable("true", "coreutils")).toContain("util-linux");
  });

  it("is to be tried again when the machine cannot start a program now", async () => {
    const { stdout, stderr } = await runProgram("start-limited-without-files.mjs", {
      arguments: [JSON.stringify({ command: "true", args: [], limits: LIMITS })],
    });

    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({
      code: "TransformUnavailable",
      message: expect.stringMatching(/^Cannot start a program: spawn .*EMFILE$/) as unknown,
    });
  });

  it("is killed when it is aborted while it is spawned", async () => {
    const leaving = new AbortController();
    const program = {
      ...{ command: "sleep", arguments: ["infinity"], limits: LIMITS, signal: leaving.signal },
      // Read once the signal was checked.
      get files() {
        leaving.abort();
        return [];
      },
    };

    const { ended } = await startLimited(program);

    expect((await ended).killedBy).toBe("SIGKILL");
  });

  it("does not start when it is aborted already", async () => {
    const reason = new Error("cancelled");
    const signal = AbortSignal.abort(reason);

    await expect(
      startLimited({ command: "true", arguments: [], limits: LIMITS, signal }),
    ).rejects.toBe(reason);
  });

  it("does not outlive a worker that dies while it starts", async () => {
    // No other process has this word in its command line.
    const word = `86400.${String(process.pid)}`;
    onTestFinished(() => {
      for (const pid of processesWith(word)) process.kill(pid, "SIGKILL");
    });
    // As on a slow machine, the worker is dead before the program can ask to die with it.
    const directory = makeTemporaryDirectory();
    const setpriv = execFileSync("sh", ["-c", "command -v setpriv"], { encoding: "utf8" }).trim();
    const slow = join(directory, "setpriv");
    writeFileSync(slow, `#!/bin/sh\nsleep 1\nexec ${setpriv} "$@"\n`, { mode: 0o755 });
    const settings = { command: "sleep", args: [word], limits: LIMITS };

    await runProgram("start-limited-and-die.mjs", {
      arguments: [JSON.stringify(settings)],
      env: { PATH: `${directory}:${process.env["PATH"] ?? ""}` },
    });

    // The processes that wait for the slow one also have the word.
    await vi.waitUntil(() => processesWith(word).length === 0, PATIENCE);
  });
});
