import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { readNameHolder, tryToLockName, type NameLock } from "../processes/name-lock.ts";
import { StackBusyError } from "./stack-error.ts";

/**
 * Takes the exclusive lock of a data directory.
 *
 * @throws StackBusyError naming the holder, when another process has it
 */
export async function lockDataDirectory(dataDir: string): Promise<NameLock> {
  const name = lockName("stack", dataDir);
  const lock = await tryToLockName(name);
  if (lock !== undefined) return lock;
  const holder = (await readNameHolder(name)) ?? "unknown";
  throw new StackBusyError(
    `Cannot use the data directory "${dataDir}": a stack already runs on it (process ${holder}). Use that stack, stop it (Ctrl-C in its terminal), or choose another directory with --data-dir`,
  );
}

/**
 * Takes the turn of a demo on a data directory, so that demos run one after another: a demo stops
 * the stack that it started, while another one might use it.
 *
 * @returns undefined while another demo has the turn
 */
export async function tryToTakeDemoTurn(dataDir: string): Promise<NameLock | undefined> {
  return tryToLockName(lockName("demo", dataDir));
}

function lockName(purpose: "stack" | "demo", dataDir: string): string {
  // By inode, not by path: the same directory may be reached by several paths.
  const { dev, ino } = statSync(dataDir);
  const digest = createHash("sha256").update(`${dev}:${ino}`).digest("hex");
  return `image-import-${purpose}-${digest.slice(0, 32)}`;
}
