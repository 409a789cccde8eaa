import type { Service } from "../client/service.ts";
import { sleep } from "../client/sleep.ts";
import { whileUnreachable } from "../client/while-unreachable.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { AcceptedImport, ImportOutcome, ImportStatus } from "../workflow/contract.ts";
import type { ImportObserver } from "./import-observer.ts";
import { waitingForAWorker } from "./waiting-for-a-worker.ts";

/** The end of following an import: its outcome, or the user has left. */
export type Followed =
  { readonly kind: "ended"; readonly outcome: ImportOutcome } | { readonly kind: "left" };

// A running worker answers within moments; after this the user wants to know the reason.
const SILENCE_MS = 3_000;
// A restarted server or worker answers within seconds.
const RETRY_EVERY_MS = 1_000;
const LAST_LOOK_MS = 2_000;

/**
 * Shows the progress of an import until it has ended. Waits while the Temporal server or the worker
 * is unreachable: the import continues when they are back.
 *
 * The user wants to leave when `signal` is aborted.
 *
 * @throws ImportError with the code of the import's failure
 */
export async function followImport(
  client: Service,
  { image_id: imageId, run_id: runId }: Pick<AcceptedImport, "image_id" | "run_id">,
  { observer, signal }: { readonly observer: ImportObserver; readonly signal: AbortSignal },
): Promise<Followed> {
  let isAny = false;
  const observe = (status: ImportStatus): void => {
    isAny = true;
    observer.status(status);
  };
  const ended = whileUnreachable(() => client.imports.wait(imageId, runId), {
    codes: ["TemporalUnavailable"],
    signal,
    onWait: () => {
      observer.note("Temporal does not answer; the import continues when it does");
    },
  });
  const showing = new AbortController();
  const stopped = AbortSignal.any([signal, showing.signal]);
  const end = new AbortController();
  const show = showStatus(client, imageId, { observe, ended: end.signal, signal: stopped });
  const silence = setTimeout(() => {
    if (!isAny) observer.note(waitingForAWorker());
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
    end.abort();
    // The last status is that of the end: wait a moment for it.
    await Promise.race([show, sleep(LAST_LOOK_MS, signal)]);
    showing.abort();
    await show;
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof ImportError && error.code === "ImportNotFound";
}

/** The failure of an import whose run is gone: it existed when this command began to follow it. */
function lost(imageId: string, runId: string): ImportError {
  return new ImportError(
    "ImportAbandoned",
    `Temporal has no run "${runId}" of the import of image "${imageId}" any more: its history was deleted or lost. The reconciler undoes within minutes what it left`,
  );
}

interface Showing {
  readonly observe: (status: ImportStatus) => void;
  readonly ended: AbortSignal;
  readonly signal: AbortSignal;
}

/** Shows each status until the end. A status that cannot be read is skipped. */
async function showStatus(
  client: Service,
  imageId: string,
  { observe, ended, signal }: Showing,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const status of client.imports.watch(imageId, { ended })) {
        // The catch below ends the loop.
        signal.throwIfAborted();
        observe(status);
      }
      return;
    } catch {
      await sleep(RETRY_EVERY_MS, signal);
    }
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => {
    signal.addEventListener("abort", resolve, { once: true });
  });
}
