import type { ImageImportClient } from "../client/image-import-client.ts";
import { whileUnreachable } from "../client/while-unreachable.ts";
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

/** The end of following an import: its outcome, or the user has left. */
export type Followed =
  { readonly kind: "ended"; readonly outcome: ImportOutcome } | { readonly kind: "left" };

// A running worker answers within moments; after this the user wants to know the reason.
const SILENCE_MS = 3_000;
// A restarted server or worker answers within seconds.
const RETRY_EVERY_MS = 1_000;
const LAST_LOOK_MS = 2_000;

/**
 * Shows the progress of an import until it has ended. It waits while the Temporal server or the
 * worker is unreachable: the import continues, too.
 *
 * The signal is aborted when the user wants to leave.
 *
 * @throws ImportError with the code of the import's failure
 */
export async function followImport(
  client: ImageImportClient,
  { image_id: imageId, run_id: runId }: Pick<AcceptedImport, "image_id" | "run_id">,
  { progress, signal }: { readonly progress: ProgressDisplay; readonly signal: AbortSignal },
): Promise<Followed> {
  const shown = new ShownPhases(progress);
  const ended = whileUnreachable(() => client.imports.wait(imageId, runId), {
    code: "TemporalUnavailable",
    signal,
    onWait: () => {
      progress.note("Temporal does not answer; the import continues when it does");
    },
  });
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
    // The last status is that of the end: wait a moment for it.
    await Promise.race([show, pause(LAST_LOOK_MS, signal)]);
    showing.abort();
    await show;
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof ImportError && error.code === "ImportNotFound";
}

/** The run existed when following it began. */
function lost(imageId: string, runId: string): ImportError {
  return new ImportError(
    "ImportAbandoned",
    `Temporal has no run "${runId}" of the import of image "${imageId}" any more, its history was deleted or lost; the reconciler undoes within minutes what it left`,
  );
}

/** Best effort: a status that cannot be read is skipped. */
async function showStatus(
  client: ImageImportClient,
  imageId: string,
  shown: ShownPhases,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const status of client.imports.watch(imageId)) {
        // The catch below ends the loop.
        signal.throwIfAborted();
        shown.show(status);
      }
      return;
    } catch {
      await pause(RETRY_EVERY_MS, signal);
    }
  }
}

/** Labels of the steps that concern no store, by their phase. */
const OWN_STEPS: Readonly<Record<string, string>> = {
  fetching: "fetching",
  transforming: "transforming",
};

class ShownPhases {
  readonly #progress: ProgressDisplay;
  readonly #storesWithBytes = new Set<string>();
  readonly #notedFailures = new Set<string>();
  #notedPhases = 0;
  #isAny = false;
  #pause: ImportStatus["pause"] = "running";

  constructor(progress: ProgressDisplay) {
    this.#progress = progress;
  }

  /** True once a status was shown. */
  get isAny(): boolean {
    return this.#isAny;
  }

  show(status: ImportStatus): void {
    this.#isAny = true;
    this.#noteEnded(status.phases);
    if (status.pause !== this.#pause) this.#progress.note(status.pause);
    this.#pause = status.pause;
    this.#noteRetry(status.phases.at(-1)?.phase ?? "", status);
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
    this.#noteRetry(`store ${store}`, progress);
    if (doneBytes !== undefined) {
      this.#progress.bytes(`store ${store}`, doneBytes, total);
      this.#storesWithBytes.add(store);
    }
    // No heartbeat reports the last blocks; the end of the copy does.
    const isComplete = state === "stored" && this.#storesWithBytes.delete(store);
    if (isComplete && total !== undefined) this.#progress.bytes(`store ${store}`, total, total);
  }

  /** Once for each reason: an unreachable store is tried hundreds of times. */
  #noteRetry(
    what: string,
    { attempt, last_failure: reason }: Pick<StoreProgress, "attempt" | "last_failure">,
  ): void {
    if (attempt === undefined || reason === undefined) return;
    const note = `${what} is retried after: ${reason}`;
    if (this.#notedFailures.has(note)) return;
    this.#notedFailures.add(note);
    this.#progress.note(note);
  }

  #noteEnded(phases: ImportStatus["phases"]): void {
    const ended = phases.filter(
      ({ phase, ended_at: endedAt }) => endedAt !== null && !isEnd(phase),
    );
    for (const { phase, started_at: startedAt, ended_at: endedAt } of ended.slice(
      this.#notedPhases,
    )) {
      const tookMs = Date.parse(endedAt ?? startedAt) - Date.parse(startedAt);
      this.#progress.note(`${phase.padEnd(10)} ${formatDuration(tookMs)}`);
    }
    this.#notedPhases = ended.length;
  }
}

/** An end takes no time, and the answer of the command names it. */
function isEnd(phase: ImportPhase): boolean {
  return phase === "done" || phase === "failed" || phase === "cancelled";
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
