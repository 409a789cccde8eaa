import { log, setCurrentDetails, setHandler, workflowInfo } from "@temporalio/workflow";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { LastFailure } from "../activities/progress.ts";
import type { StoredCopy } from "../activities/store-image.ts";
import type { VerifiedStaging } from "../activities/verify-staging.ts";
import type { FailureDetails } from "../domain/failure-details.ts";
import type { ImportMethod, ImportRequest } from "../domain/import-request.ts";
import { bytesAtStop } from "./bytes-at-stop.ts";
import {
  importStatus,
  isEndPhase,
  type EndPhase,
  type ImportPhase,
  type ImportStatus,
  type PhaseTime,
  type StoreProgress,
} from "./contract.ts";
import type { GivenUp } from "./copies.ts";
import { currentDetails, type StoreRow } from "./current-details.ts";
import { attemptOf, describeFailure, wasStopped, type FailureReport } from "./failure-report.ts";
import { causeOfDeadline } from "./deadline-causes.ts";
import { ImportAttributes } from "./import-attributes.ts";
import { countImport, measurePhase } from "./import-metrics.ts";
import { logWith } from "./log-attributes.ts";
import { given, shown } from "./message-arguments.ts";

// A client may send any number of signals, and users read only the last notes.
const MOST_NOTES = 3;

/** The verified facts about the bytes. */
type Verified = Pick<VerifiedStaging, "size"> &
  Partial<Pick<VerifiedStaging, "detected_format" | "checks">>;

interface PauseState {
  readonly state: ImportStatus["pause"];
  readonly since: string | undefined;
}

/**
 * The visible state of an import: the query `importStatus`, the current details and the search
 * attributes.
 */
export class ImportTracker {
  readonly #imageId: string;
  readonly #method: ImportMethod;
  readonly #phases: PhaseTime[] = [];
  readonly #stores: Record<string, StoreProgress> = {};
  readonly #attributes = new ImportAttributes();
  #plan: ImportPlan | undefined;
  #verified: Verified | undefined;
  #message: string | null = null;
  #failure: FailureDetails | undefined;
  #failureText: string | undefined;
  #stopped: Pick<ImportStatus, "done_bytes" | "total_bytes"> = {};
  #pause: () => PauseState = () => ({ state: "running", since: undefined });
  #causes: readonly string[] = [];
  #shownPause: ImportStatus["pause"] = "running";
  /** The begin of the phase or the pause. */
  #since = "";
  #notes: readonly string[] = [];
  readonly #rows: Record<string, StoreRow> = {};

  constructor({ image_id, method = "glance-direct" }: ImportRequest) {
    this.#imageId = image_id;
    this.#method = method;
    setHandler(importStatus, (...args) => this.#answer(given(args)), {
      description: "Returns the state of the import: phase, pause, size, state of each store",
    });
  }

  /** Sets the source of the pause's state. */
  showPauseOf(pause: () => PauseState): void {
    this.#pause = pause;
  }

  /** Begins a phase. */
  enter(phase: ImportPhase): void {
    const now = new Date().toISOString();
    const last = this.#phases.at(-1);
    if (last !== undefined) {
      last.ended_at = now;
      measurePhase(last, this.#method);
    }
    this.#stopped = {};
    const isEnd = isEndPhase(phase);
    this.#since = now;
    this.#phases.push({ phase, started_at: now, ended_at: isEnd ? now : null });
    this.#attributes.enter(phase);
    this.show();
    if (isEnd) this.#logEnd(phase);
  }

  /** The state of the pause may have changed. */
  pauseChanged(): void {
    this.#showPause();
    this.#attributes.pauseChanged(this.#pause().state === "paused");
  }

  #showPause(): void {
    const state = this.#pause().state;
    if (state !== this.#shownPause) this.#since = new Date().toISOString();
    this.#shownPause = state;
    this.show();
  }

  /** A signal that takes no arguments had some. It has its effect nevertheless. */
  ignoredArguments(signal: string, args: readonly unknown[]): void {
    if (args.length === 0) return;
    const note = `Ignored the arguments ${shown(args)} of ${signal}: it takes none, and acts on the complete import`;
    log.warn(note);
    this.#notes = [...this.#notes, note].slice(-MOST_NOTES);
    this.show();
  }

  #answer(args: readonly unknown[]): ImportStatus {
    if (args.length === 0) return this.#status();
    throw new Error(`Cannot answer importStatus with ${shown(args)}: the query takes no argument`);
  }

  /** The import was accepted: sets its search attributes. */
  accepted(plan: ImportPlan): void {
    this.#plan = plan;
    for (const store of plan.stores) this.#setStore(store, { state: "waiting" });
    this.#attributes.accepted(plan, this.#method);
    logWith({ image_id: plan.image_id, task_id: plan.task_id });
    log.info("Import accepted", {
      method: this.#method,
      stores: plan.stores,
      owner: plan.owner,
      node: plan.node,
    });
  }

  /** The staged bytes were judged. */
  verified(verified: Verified): void {
    this.#verified = verified;
  }

  /** Runs the copy into one store. */
  async copying(store: string, run: () => Promise<StoredCopy>): Promise<StoredCopy> {
    const started_at = new Date().toISOString();
    this.#setStore(store, { state: "copying", started_at });
    this.show();
    const ended = () => ({ started_at, ended_at: new Date().toISOString() });
    try {
      const copy = await run();
      const stored = { state: "stored", method: copy.method, ...ended() } as const;
      this.#setStore(store, stored, { attempt: copy.attempt });
      return copy;
    } catch (error) {
      const { text: reason } = describeFailure(error);
      const progress = wasStopped(error)
        ? ({ state: "stopped", ...ended() } as const)
        : ({ state: "failed", ...ended(), last_failure: reason } as const);
      this.#setStore(store, progress, { reason, attempt: attemptOf(error) });
      throw error;
    } finally {
      this.show();
    }
  }

  /** A pause has stopped a step: keeps the bytes at which it stopped. */
  stopped(failure: unknown, store?: string): void {
    const reached = bytesAtStop(failure);
    if (reached === undefined) return;
    const { doneBytes: done_bytes, totalBytes } = reached;
    if (store === undefined) {
      this.#stopped = {
        done_bytes,
        ...(totalBytes === undefined ? {} : { total_bytes: totalBytes }),
      };
    } else {
      this.#stores[store] = { state: "copying", ...this.#stores[store], done_bytes };
    }
  }

  /** The import continues without a store. */
  gaveUp(store: string, why: GivenUp, failure: unknown): void {
    const { started_at, ended_at } = this.#stores[store] ?? {};
    const { attempt } = this.#rows[store] ?? {};
    const reason = why === "failed" ? describeFailure(failure).text : undefined;
    const progress: StoreProgress = {
      state: why,
      ...(started_at === undefined ? {} : { started_at }),
      ...(ended_at === undefined ? {} : { ended_at }),
      ...(reason === undefined ? {} : { last_failure: reason }),
    };
    this.#setStore(store, progress, { attempt, reason });
    this.show();
  }

  #setStore(
    store: string,
    progress: StoreProgress,
    about: Pick<StoreRow, "attempt" | "reason"> = {},
  ): void {
    this.#stores[store] = progress;
    this.#rows[store] = { since: new Date().toISOString(), ...about };
  }

  /** Stores that failed permanently. */
  get failedStores(): string[] {
    return Object.keys(this.#stores).filter((store) => this.#stores[store]?.state === "failed");
  }

  /** The deadline has passed while these steps waited for a retry. */
  failedBeforeDeadline(failures: readonly LastFailure[]): void {
    this.#causes = [...this.#causes, ...failures.map(causeOfDeadline)];
  }

  /** The deadline has passed while the import was paused. */
  wasPausedTooLong(): void {
    this.#causes = ["it was paused at that time"];
  }

  /** The failure of an import that did not end before its deadline. */
  pastDeadline(place: Pick<FailureDetails, "step" | "store">): FailureReport {
    const text = ["it did not end before its deadline", ...this.#causes].join("; ");
    return { code: "ImportDeadlineExceeded", text, ...place };
  }

  /** The import fails with this message of its task. */
  failed(message: string, { text, ...failure }: FailureReport): void {
    this.#message = message;
    this.#failure = failure;
    this.#failureText = text;
    const { code, hint, store } = failure;
    logWith({
      code,
      ...(hint === undefined ? {} : { hint }),
      ...(store === undefined ? {} : { store }),
    });
  }

  /** Logs one line for each import, at any end. */
  #logEnd(phase: EndPhase): void {
    const isAccepted = this.#plan !== undefined || phase === "done";
    const outcome = phase === "done" ? "active" : phase;
    const reached = isAccepted ? outcome : "refused";
    countImport(this.#method, reached, this.#failure?.code);
    const fields = {
      outcome: reached,
      method: this.#method,
      image_id: this.#imageId,
      owner: this.#plan?.owner ?? null,
      bytes: this.#verified?.size ?? null,
      seconds: (Date.now() - workflowInfo().startTime.getTime()) / 1000,
      stores: Object.keys(this.#stores).filter((name) => this.#stores[name]?.state === "stored"),
      ...(this.#failure === undefined
        ? {}
        : { step: this.#failure.step, message: this.#failureText }),
    };
    if (phase === "failed") log.warn("Import ended", fields);
    else log.info("Import ended", fields);
  }

  /** Writes the current details. */
  show(): void {
    setCurrentDetails(
      currentDetails({
        status: this.#status(),
        name: this.#plan?.image_name,
        since: this.#since,
        stores: this.#rows,
        notes: this.#notes,
      }),
    );
  }

  #status(): ImportStatus {
    const { state: pause, since } = this.#pause();
    return {
      image_id: this.#imageId,
      task_id: this.#plan?.task_id ?? null,
      method: this.#method,
      phase: this.#phases.at(-1)?.phase ?? "accepting",
      pause,
      ...(since === undefined ? {} : { paused_at: since }),
      size: this.#verified?.size ?? null,
      stores: this.#stores,
      phases: this.#phases,
      detected_format: this.#verified?.detected_format ?? null,
      checks: this.#verified?.checks ?? {},
      message: this.#message,
      ...(this.#failure === undefined ? {} : { failure: this.#failure }),
      ...(pause === "running" ? {} : this.#stopped),
    };
  }
}
