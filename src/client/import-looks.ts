import type { WorkflowExecutionDescription } from "@temporalio/client";
import { withLiveProgress } from "../temporal/live-progress.ts";
import type { ImportStatus } from "../workflow/contract.ts";
import { isOpen } from "./described-run.ts";
import { sleep } from "./sleep.ts";
import type { Turns } from "./turns.ts";

/** The two requests of a look. */
export interface LookRequests {
  readonly describe: () => Promise<WorkflowExecutionDescription>;
  /** A worker answers it. */
  readonly query: (runId: string) => Promise<ImportStatus>;
}

/** Options of {@link lookAtImport}. */
export interface LookOptions {
  /** The shortest time between two looks, in ms. */
  readonly everyMs: number;
  /** Shared by all imports that a client follows. */
  readonly turns: Turns;
  /** Aborted when the import is known to have ended: the last look follows at once. */
  readonly ended: AbortSignal;
  /** See {@link Turns.next}. */
  readonly party?: string | undefined;
}

interface Look {
  readonly status: ImportStatus;
  readonly isOpen: boolean;
  readonly change: "run" | "bytes" | "none";
}

// Workers send heartbeats once per second: more looks show nothing new.
const BYTES_EVERY_MS = 1_000;
// An import that is paused, or waits for a retry.
const SLOWEST_MS = 4_000;

/**
 * Yields the status of an import until it has ended; the last is that of its end. A look costs the
 * server one request, and a second one only if the history of the run has grown since. The time
 * between two looks doubles while nothing changes.
 */
export async function* lookAtImport(
  requests: LookRequests,
  { everyMs, turns, ended, party }: LookOptions,
): AsyncGenerator<ImportStatus> {
  const looks = new Looks(requests);
  for (let waitMs = everyMs; ;) {
    const isLast = ended.aborted;
    await turns.next(ended, party);
    const { status, isOpen, change } = await looks.look();
    yield status;
    if (!isOpen || isLast) return;
    waitMs = nextWaitMs(change, waitMs, everyMs);
    await sleep(waitMs, ended);
  }
}

function nextWaitMs(change: Look["change"], waitMs: number, everyMs: number): number {
  switch (change) {
    case "run":
      return everyMs;
    case "bytes":
      return Math.max(everyMs, BYTES_EVERY_MS);
    case "none":
      return Math.max(everyMs, Math.min(waitMs * 2, SLOWEST_MS));
  }
}

class Looks {
  readonly #requests: LookRequests;
  #last: { runId: string; historyLength: number; status: ImportStatus } | undefined;
  #shown = "";

  constructor(requests: LookRequests) {
    this.#requests = requests;
  }

  async look(): Promise<Look> {
    // Described first: a run that is closed by now answers the query with its end.
    const description = await this.#requests.describe();
    const { runId, historyLength } = description;
    const isSame = this.#last?.runId === runId && this.#last.historyLength === historyLength;
    const own =
      isSame && this.#last !== undefined ? this.#last.status : await this.#requests.query(runId);
    this.#last = { runId, historyLength, status: own };
    const status = withLiveProgress(own, description);
    const shown = JSON.stringify(status);
    const change = isSame ? (shown === this.#shown ? "none" : "bytes") : "run";
    this.#shown = shown;
    return { status, isOpen: isOpen(description), change };
  }
}
