import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { expect, onTestFinished, vi } from "vitest";
import { findProcess, type LocalProcess } from "../../src/processes/process-table.ts";
import { PATIENCE } from "./patience.ts";

/** Starts a shell command, waits until it says something, and ends it with the test. */
export async function startShell(
  command: string,
  env: NodeJS.ProcessEnv = {},
): Promise<{ readonly identity: LocalProcess; readonly ended: Promise<unknown> }> {
  const child = spawn("sh", ["-c", command], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "ignore"],
    // A group of its own, so that what the command starts ends with it.
    detached: true,
  });
  onTestFinished(() => {
    killGroup(child.pid);
  });
  const ended = once(child, "exit");
  await once(child.stdout, "data");
  const identity = findProcess(child.pid ?? 0);
  if (identity === undefined) throw new Error(`No process runs "${command}"`);
  return { identity, ended };
}

function killGroup(pid = 0): void {
  try {
    if (pid > 0) process.kill(-pid, "SIGKILL");
  } catch {
    // All of it has ended.
  }
}

/**
 * Starts a program that has a zombie: its child has ended, and it never asks for the child's exit
 * code.
 *
 * The shell that starts the child becomes that program, and the child ends only after that: a shell
 * that still was one would sometimes ask for the exit code.
 */
export async function startZombie(): Promise<number> {
  const child = 'until [ "$(cat /proc/$PPID/comm)" = sleep ]; do sleep 0.01; done';
  const { identity } = await startShell(`sh -c '${child}' & echo started; exec sleep 60`);
  const list = `/proc/${identity.pid}/task/${identity.pid}/children`;
  return vi.waitFor(() => {
    const pid = Number(readFileSync(list, "utf8").trim());
    expect(readFileSync(`/proc/${pid}/stat`, "utf8")).toContain(") Z ");
    return pid;
  }, PATIENCE);
}
