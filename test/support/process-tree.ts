import { readdirSync, readFileSync } from "node:fs";
import { waitForStandstill } from "./standstill.ts";

/** Makes a program with its child processes stand still (SIGSTOP). */
export async function stopTree(pid: number): Promise<number[]> {
  // The parent first: it starts no further child then.
  process.kill(pid, "SIGSTOP");
  await waitForStandstill(pid);
  const children = childrenOf(pid);
  for (const child of children) process.kill(child, "SIGSTOP");
  await Promise.all(children.map(waitForStandstill));
  return [...children, pid];
}

/** Lets processes continue (SIGCONT). */
export function continueAll(pids: readonly number[]): void {
  for (const pid of pids) process.kill(pid, "SIGCONT");
}

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${String(pid)}/task`).flatMap((task) =>
    readFileSync(`/proc/${String(pid)}/task/${task}/children`, "utf8")
      .split(" ")
      .filter((child) => child.trim() !== "")
      .map(Number),
  );
}
