import { readdirSync, readFileSync } from "node:fs";
import { vi } from "vitest";
import { PATIENCE } from "./patience.ts";

/** Waits until all threads of a process that was sent SIGSTOP stand still. */
export async function waitForStandstill(pid: number | undefined): Promise<void> {
  const tasks = `/proc/${String(pid)}/task`;
  await vi.waitUntil(
    () => readdirSync(tasks).every((id) => stateOf(`${tasks}/${id}/stat`) === "T"),
    PATIENCE,
  );
}

/** The state of a thread; undefined when the thread has ended since it was listed. */
function stateOf(path: string): string | undefined {
  try {
    const stat = readFileSync(path, "latin1");
    // The state comes after the program's name in parentheses.
    return stat.charAt(stat.lastIndexOf(")") + 2);
  } catch {
    return undefined;
  }
}
