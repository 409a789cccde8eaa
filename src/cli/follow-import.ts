import type { ImageImportClient } from "../client/image-import-client.ts";
import { formatDuration } from "../domain/duration.ts";
import { ImportError } from "../domain/import-failure.ts";
import type {
  AcceptedImport,
  ImportOutcome,
  ImportPhase,
  ImportStatus,
  StoreProgress,
} from "../workflow/contract.ts";
import type { ProgressDisplay } from "./progress-display.ts";
import { WAITING_FOR_A_WORKER } from "./waiting-for-a-worker.ts";

/** How following an import ended: with its outcome, or because the person went away from it. */
export type Followed =
  { readonly kind: "ended"; readonly outcome: ImportOutcome } | { readonly kind: "left" };

// A worker that runs answers within moments; after this a person wants to know what it is that
// takes so long.
const SILENCE_MS = 3_000;
// A restarted server or worker answers again within seconds.
const RETRY_EVERY_MS = 1_000;
const LAST_LOOK_MS = 2_000;

/**
 * Shows how far an import is, until it has ended. A Temporal server or a worker that is away for a
 * while ends nothing: the import goes on, and so does the look at it.
 *
 * The signal is aborted when the person wants to leave.
 *
 * @throws ImportError with the code of the import's failure
 */
export async function followImport(
  client: ImageImportClient,
  { image_id: imageId, run_id: runId }: Pick<AcceptedImport, "image_id" | "run_id">,
  { progress, signal }: { readonly progress: ProgressDisplay; readonly signal: AbortSignal },
): Promise<Followed> {
  const shown = new ShownPhases(progress);
  const ended = patiently(() => client.imports.wait(imageId, runId), progress, signal);
  const showing = new AbortController();
  const stopped = AbortSignal.any([signal, showing.signal]);
  const show = showStatus(client, imageId, shown, stopped);
  const silence = setTimeout(() => {
    if (!shown.isAny) progress.note(WAITING_FOR_A_WORKER);
  }, SILENCE_MS);
  try {
    return await Promise.race([
      ended.then((outcome): Followed => ({ kind: "ended", outcome })),
      aborted(signal).then((): Followed => ({ kind: "left" })),
    ]);
  } catch (error) {
    throw isNotFound(error) ? lost(imageId, runId) : error;
  } finally {
    clearTimeout(silence);
    // The last status is that of the end: it is worth a moment.
    await Promise.race([show, pause(LAST_LOOK_MS, signal)]);
    showing.abort();
    await show;
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof ImportError && error.code === "ImportNotFound";
}

/** What is followed was there when that began. */
function lost(imageId: string, runId: string): ImportError {
  return new ImportError(
    "ImportAbandoned",
    `Temporal has no run "${runId}" of the import of image "${imageId}" any more, its history was deleted or lost; the reconciler undoes within minutes what it left`,
  );
}

/** Asks again for as long as Temporal is away. */
async function patiently<T>(
  ask: () => Promise<T>,
  progress: ProgressDisplay,
  signal: AbortSignal,
): Promise<T> {
  for (let isNoted = false; ;) {
    try {
      return await ask();
    } catch (error) {
      if (!isUnavailable(error) || signal.aborted) throw error;
      if (!isNoted) progress.note("Temporal does not answer; the import goes on when it does");
      isNoted = true;
      await pause(RETRY_EVERY_MS, signal);
    }
  }
}

/** Best effort: what cannot be asked now is shown later, or not at all. */
async function showStatus(
  client: ImageImportClient,
  imageId: string,
  shown: ShownPhases,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const status of client.imports.watch(imageId)) {
        // Ends up in the catch, and so at the end of the loop.
        signal.throwIfAborted();
        shown.show(status);
      }
      return;
    } catch {
      await pause(RETRY_EVERY_MS, signal);
    }
  }
}

/** What people see of the steps that are about no store, by their phase. */
const OWN_STEPS: Readonly<Record<string, string>> = {
  fetching: "fetching",
  transforming: "transforming",
};

class ShownPhases {
  readonly #progress: ProgressDisplay;
  readonly #storesWithBytes = new Set<string>();
  readonly #toldFailures = new Set<string>();
  #toldPhases = 0;
  #isAny = false;
  #pause: ImportStatus["pause"] = "running";

  constructor(progress: ProgressDisplay) {
    this.#progress = progress;
  }

  /** Whether anything was shown yet. */
  get isAny(): boolean {
    return this.#isAny;
  }

  show(status: ImportStatus): void {
    this.#isAny = true;
    this.#tellEnded(status.phases);
    if (status.pause !== this.#pause) this.#progress.note(status.pause);
    this.#pause = status.pause;
    this.#tellRetry(status.phases.at(-1)?.phase ?? "", status);
    const total = status.size ?? undefined;
    const { phases, done_bytes: doneBytes, total_bytes: ownTotal } = status;
    if (doneBytes !== undefined) {
      this.#progress.bytes(OWN_STEPS[phases.at(-1)?.phase ?? ""] ?? "reading", doneBytes, ownTotal);
    }
    for (const [store, progress] of Object.entries(status.stores)) {
      this.#showStore(store, progress, total);
    }
  }

  #showStore(store: string, progress: StoreProgress, total?: number): void {
    const { state, done_bytes: doneBytes } = progress;
    this.#tellRetry(`store ${store}`, progress);
    if (doneBytes !== undefined) {
      this.#progress.bytes(`store ${store}`, doneBytes, total);
      this.#storesWithBytes.add(store);
    }
    // The last blocks are not told by a heartbeat: the end of the copy tells them.
    const isWhole = state === "stored" && this.#storesWithBytes.delete(store);
    if (isWhole && total !== undefined) this.#progress.bytes(`store ${store}`, total, total);
  }

  /** Once for each reason: a store that is away for hours is tried hundreds of times. */
  #tellRetry(
    what: string,
    { attempt, last_failure: reason }: Pick<StoreProgress, "attempt" | "last_failure">,
  ): void {
    if (attempt === undefined || reason === undefined) return;
    const told = `${what} is tried again after: ${reason}`;
    if (this.#toldFailures.has(told)) return;
    this.#toldFailures.add(told);
    this.#progress.note(told);
  }

  #tellEnded(phases: ImportStatus["phases"]): void {
    const ended = phases.filter(
      ({ phase, ended_at: endedAt }) => endedAt !== null && !isEnd(phase),
    );
    for (const { phase, started_at: startedAt, ended_at: endedAt } of ended.slice(
      this.#toldPhases,
    )) {
      const tookMs = Date.parse(endedAt ?? startedAt) - Date.parse(startedAt);
      this.#progress.note(`${phase.padEnd(10)} ${formatDuration(tookMs)}`);
    }
    this.#toldPhases = ended.length;
  }
}

/** The ends take no time; the answer of the command tells which of them it was. */
function isEnd(phase: ImportPhase): boolean {
  return phase === "done" || phase === "failed" || phase === "cancelled";
}

function isUnavailable(error: unknown): boolean {
  return error instanceof ImportError && error.code === "TemporalUnavailable";
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => {
    signal.addEventListener("abort", resolve, { once: true });
  });
}

async function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, durationMs);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
