import type { ImageImportClient } from "../client/image-import-client.ts";
import type { RunningImport } from "../client/running-import.ts";
import { sleep } from "../client/sleep.ts";
import { whileUnreachable } from "../client/while-unreachable.ts";
import { failureOfImport } from "../client/import-report.ts";
import type { ImportObserver } from "./import-observer.ts";
import { failureEvent } from "./failure-event.ts";
import { endOf, goesOn, hasFailed } from "./import-report-fields.ts";
import type { ProgressDisplay } from "./progress-display.ts";

// Temporal lists a new import within seconds.
const LIST_EVERY_MS = 3_000;

/** Options of {@link watchAll}. */
export interface WatchAllOptions {
  /** The display of one import. */
  readonly displayOf: (running: RunningImport) => ProgressDisplay;
  /** Called when no import runs. */
  readonly onIdle: () => void;
  /** Aborted when the user wants to leave. */
  readonly signal: AbortSignal;
}

/** Follows all imports that run, and those that begin meanwhile, until the user leaves. */
export async function watchAll(
  client: ImageImportClient,
  { displayOf, onIdle, signal }: WatchAllOptions,
): Promise<void> {
  const followed = new Map<string, Followed>();
  let wasIdle = false;
  while (!signal.aborted) {
    const running = await listed(client, signal);
    for (const each of running) {
      const known = followed.get(each.run_id) ?? new Followed(displayOf(each));
      followed.set(each.run_id, known);
      known.begin(client, each, signal);
    }
    if (running.length === 0 && !wasIdle) onIdle();
    wasIdle = running.length === 0;
    await sleep(LIST_EVERY_MS, signal);
  }
  await Promise.all([...followed.values()].map((each) => each.left()));
}

/** An import that is followed, or was. */
class Followed {
  readonly #display: ProgressDisplay;
  readonly #observer: ImportObserver;
  #ended: Promise<void> | undefined;
  #reason: string | undefined;

  constructor(display: ProgressDisplay) {
    this.#display = display;
    this.#observer = display.follow();
  }

  /** Waits until it is not followed any more. */
  async left(): Promise<void> {
    await this.#ended;
  }

  /** Follows it to its end. Does nothing if it is followed now, or has ended. */
  begin(client: ImageImportClient, { image_id: id }: RunningImport, signal: AbortSignal): void {
    this.#ended ??= this.#follow(client, id, signal);
  }

  /** Best effort: an import that could not be followed is followed when it is listed again. */
  async #follow(client: ImageImportClient, imageId: string, signal: AbortSignal): Promise<void> {
    try {
      for await (const status of client.imports.watch(imageId, { ended: signal })) {
        this.#observer.status(status);
        if (signal.aborted) return;
      }
      if (!signal.aborted) await showEnd(client, imageId, this.#display);
    } catch (error) {
      this.#ended = undefined;
      if (!signal.aborted) this.#say(error instanceof Error ? error.message : String(error));
    }
  }

  #say(reason: string): void {
    if (reason !== this.#reason) this.#observer.note(reason);
    this.#reason = reason;
  }
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

async function showEnd(
  client: ImageImportClient,
  imageId: string,
  display: ProgressDisplay,
): Promise<void> {
  const report = await client.imports.report(imageId);
  // The list names its next run.
  if (goesOn(report)) return;
  if (hasFailed(report)) {
    const failure = failureOfImport(report);
    display.note(`failed: ${failure.message}`);
    display.event(failureEvent(failure));
    return;
  }
  display.note("succeeded");
  display.event({ event: endOf(report), answer: report });
}
