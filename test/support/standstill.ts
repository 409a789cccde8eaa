import { readdirSync, readFileSync } from "node:fs";
import { vi } from "vitest";

/** Waits until all threads of a process that was sent SIGSTOP stand still. */
export async function waitForStandstill(pid: number | undefined): Promise<void> {
  const tasks = `/proc/${String(pid)}/task`;
  const states = (): string[] =>
    readdirSync(tasks).map((id) => {
      const stat = readFileSync(`${tasks}/${id}/stat`, "latin1");
      // The state comes after the program's name in parentheses.
      return stat.charAt(stat.lastIndexOf(")") + 2);
    });
  await vi.waitUntil(() => states().every((state) => state === "T"), {
    timeout: 10_000,
    interval: 10,
  });
}
