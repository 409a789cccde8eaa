import { performance } from "node:perf_hooks";
import type { Report } from "../domain/report.ts";
import type { ProgressDisplay } from "./progress-display.ts";

/** The names of a piece of work of this process: while it runs, and when it is done. */
export interface NamedWork {
  readonly label: string;
  readonly done: string;
}

/** The work of reading a file into the staging area. */
export const STAGING: NamedWork = { label: "staging", done: "staged" };

/** Runs work that reports its bytes, and shows them; at its end, how long it took. */
export async function showingWork<T>(
  progress: ProgressDisplay,
  { label, done }: NamedWork,
  work: (report: Report) => Promise<T>,
): Promise<T> {
  const startedAtMs = performance.now();
  const end = (text: string, isFailed: boolean): void => {
    const tookMs = performance.now() - startedAtMs;
    progress.work(label, { kind: "ended", text, isFailed, tookMs });
  };
  try {
    const result = await work((doneBytes, totalBytes) => {
      progress.bytes(label, doneBytes, totalBytes);
    });
    end(done, false);
    return result;
  } catch (error) {
    end("stopped", true);
    throw error;
  }
}
