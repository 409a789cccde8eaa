import type { ImageImportClient } from "../client/image-import-client.ts";
import type { RunningImport } from "../client/import-runs.ts";
import { sleep } from "../client/sleep.ts";
import { whileUnreachable } from "../client/while-unreachable.ts";
import type { ImportObserver } from "./follow-import.ts";

// Temporal lists a new import within seconds.
const LIST_EVERY_MS = 3_000;

/** Options of {@link watchAll}. */
export interface WatchAllOptions {
  /** The observer of one import. */
  readonly observerOf: (running: RunningImport) => ImportObserver;
  /** Called when no import runs. */
  readonly onIdle: () => void;
  /** Aborted when the user wants to leave. */
  readonly signal: AbortSignal;
}

/** Follows all imports that run, and those that begin meanwhile, until the user leaves. */
export async function watchAll(
  client: ImageImportClient,
  { observerOf, onIdle, signal }: WatchAllOptions,
): Promise<void> {
  const followed = new Map<string, Promise<void>>();
  let wasIdle = false;
  while (!signal.aborted) {
    const running = await listed(client, signal);
    for (const each of running) {
      if (followed.has(each.run_id)) continue;
      followed.set(each.run_id, follow(client, each, observerOf(each), signal));
    }
    if (running.length === 0 && !wasIdle) onIdle();
    wasIdle = running.length === 0;
    await sleep(LIST_EVERY_MS, signal);
  }
  await Promise.all(followed.values());
}

async function listed(
  client: ImageImportClient,
  signal: AbortSignal,
): Promise<readonly RunningImport[]> {
  const code = "TemporalUnavailable";
  try {
    return await whileUnreachable(() => client.imports.running(), { code, signal });
  } catch (error) {
    if (signal.aborted) return [];
    throw error;
  }
}

/** Best effort: the list of running imports names an import again that could not be followed. */
async function follow(
  client: ImageImportClient,
  { image_id: imageId }: RunningImport,
  observer: ImportObserver,
  signal: AbortSignal,
): Promise<void> {
  try {
    for await (const status of client.imports.watch(imageId, { ended: signal })) {
      observer.status(status);
      if (signal.aborted) return;
    }
  } catch (error) {
    if (!signal.aborted) observer.note(error instanceof Error ? error.message : String(error));
  }
}
