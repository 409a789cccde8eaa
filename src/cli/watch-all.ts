import type { Service } from "../client/service.ts";
import type { RunningImport } from "../client/running-import.ts";
import { sleep } from "../client/sleep.ts";
import { whileUnreachable, type WaitOptions } from "../client/while-unreachable.ts";
import { failureOfImport, type ImportReport } from "../client/import-report.ts";
import type { ImportError, ImportFailureCode } from "../domain/import-failure.ts";
import type { ImportStatus } from "../workflow/contract.ts";
import type { ImportObserver } from "./import-observer.ts";
import { failureEvent } from "./failure-event.ts";
import { endOf, continues, hasFailed } from "./import-report-fields.ts";
import type { ProgressDisplay } from "./progress-display.ts";
import { untilLeft } from "./until-left.ts";

// Temporal lists a new import within seconds.
const LIST_EVERY_MS = 3_000;

/** Options of {@link watchAll}. */
export interface WatchAllOptions {
  /** The display of one import. */
  readonly displayOf: (running: RunningImport) => ProgressDisplay;
  /** Called when the service does not answer any more. */
  readonly onAway: (message: string) => void;
  /** Called when no import runs. */
  readonly onIdle: () => void;
  /** Aborted when the user wants to leave. */
  readonly signal: AbortSignal;
}

/** Follows all imports that run, and those that begin meanwhile, until the user leaves. */
export async function watchAll(
  client: Service,
  { displayOf, onAway, onIdle, signal }: WatchAllOptions,
): Promise<void> {
  const followed = new Map<string, Followed>();
  let wasIdle = false;
  // `ApiUnavailable` is added after the first answer: before it, the address may not be an API.
  const codes: ImportFailureCode[] = ["TemporalUnavailable"];
  const onWait = ({ message }: ImportError): void => {
    onAway(message);
  };
  while (!signal.aborted) {
    const running = await listed(client, { codes, onWait, signal });
    if (running === undefined) break;
    if (codes.length === 1) codes.push("ApiUnavailable");
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

  /** Waits until the import is not followed any more. */
  async left(): Promise<void> {
    await this.#ended;
  }

  /** Follows the import to its end. Does nothing if it is followed now, or has ended. */
  begin(client: Service, running: RunningImport, signal: AbortSignal): void {
    this.#ended ??= this.#follow(client, running, signal);
  }

  /** Best effort: an import that could not be followed is followed when it is listed again. */
  async #follow(client: Service, running: RunningImport, signal: AbortSignal): Promise<void> {
    const { image_id: imageId, run_id: runId } = running;
    let last: ImportStatus | undefined;
    try {
      for await (const status of client.imports.watch(imageId, { runId, ended: signal })) {
        last = status;
        this.#observer.status(status);
        if (signal.aborted) return;
      }
      const report = await untilLeft(client.imports.report(imageId), signal);
      if (report === undefined) return;
      if (report.run_id === runId) showReport(report, this.#display);
      else if (last !== undefined) showLast(last, this.#display);
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

/** The imports that run; undefined once the user has left. */
async function listed(
  client: Service,
  options: WaitOptions,
): Promise<readonly RunningImport[] | undefined> {
  const list = whileUnreachable(() => client.imports.running(), options);
  return untilLeft(list, options.signal);
}

function showReport(report: ImportReport, display: ProgressDisplay): void {
  if (continues(report)) return;
  if (hasFailed(report)) {
    showFailure(report, display);
    return;
  }
  display.note("succeeded");
  display.event({ event: endOf(report), answer: report });
}

/**
 * Shows the end of a run by its last status. Another import of the image has begun since, and the
 * report is about that one.
 */
function showLast({ phase, message, failure }: ImportStatus, display: ProgressDisplay): void {
  if (phase === "done") {
    display.note("succeeded");
    display.event({ event: "succeeded" });
  }
  // A run that was reset or terminated has no message.
  if (message !== null) showFailure({ message, failure: failure ?? null }, display);
}

function showFailure(
  end: Pick<ImportReport, "message" | "failure">,
  display: ProgressDisplay,
): void {
  const failure = failureOfImport(end);
  display.note(`failed: ${failure.message}`);
  display.event(failureEvent(failure));
}
