import type { ImportStatus, StoreProgress } from "../workflow/contract.ts";
import type { ImportObserver } from "./import-observer.ts";
import { DIGESTING, isEnd } from "./import-work.ts";
import type { ProgressDisplay } from "./progress-display.ts";

/** The work on one store, or the step of an import that concerns none. */
interface EventWork {
  readonly work: string;
  readonly store?: string;
}

type Attempts = Pick<StoreProgress, "attempt" | "next_attempt_at" | "last_failure">;

/** Reports to programs each change of an import that a command follows. */
export class ImportEvents implements ImportObserver {
  readonly #display: ProgressDisplay;
  readonly #phases = new Set<string>();
  readonly #copies = new Map<string, StoreProgress["state"]>();
  /** The last attempt of each piece of work that is known to have failed. */
  readonly #failed = new Map<string, number>();
  #pause: ImportStatus["pause"] = "running";

  constructor(display: ProgressDisplay) {
    this.#display = display;
  }

  readonly status = (status: ImportStatus): void => {
    if (status.task_id !== null) this.#display.about({ task_id: status.task_id });
    this.#tellPhases(status);
    this.#tellStep(status);
    for (const [store, copy] of Object.entries(status.stores)) this.#tellCopy(store, copy, status);
    this.#tellPause(status);
  };

  readonly note = (text: string): void => {
    this.#display.note(text);
  };

  /**
   * Reports each phase once. A reset runs some phases again, which then have another time. The last
   * phase is not reported: the command reports the end.
   */
  #tellPhases({ phases }: ImportStatus): void {
    for (const { phase, started_at: startedAt } of phases) {
      const known = `${phase} ${startedAt}`;
      if (isEnd(phase) || this.#phases.has(known)) continue;
      this.#phases.add(known);
      this.#display.event({ event: "phase", phase, started_at: startedAt });
    }
  }

  #tellStep(status: ImportStatus): void {
    const { phase, done_bytes: doneBytes } = status;
    const work = { work: phase === "storing" ? DIGESTING : phase };
    this.#tellFailedAttempt(work, status);
    if (doneBytes === undefined) return;
    this.#display.event({
      event: "progress",
      ...work,
      done_bytes: doneBytes,
      total_bytes: status.total_bytes,
      bytes_per_second: status.bytes_per_second,
    });
  }

  #tellCopy(store: string, copy: StoreProgress, { size }: ImportStatus): void {
    const { state, done_bytes: doneBytes } = copy;
    if (state === "waiting") return;
    this.#tellState(store, copy);
    if (state !== "copying") return;
    const work = { work: "copying", store };
    this.#tellFailedAttempt(work, copy);
    if (doneBytes === undefined) return;
    this.#display.event({
      event: "progress",
      ...work,
      done_bytes: doneBytes,
      total_bytes: size ?? undefined,
      bytes_per_second: copy.bytes_per_second,
    });
  }

  #tellState(store: string, copy: StoreProgress): void {
    const { state, method, started_at: startedAt, ended_at: endedAt } = copy;
    if (this.#copies.get(store) === state) return;
    this.#copies.set(store, state);
    this.#display.event({
      event: "store",
      store,
      state,
      method,
      started_at: startedAt,
      ended_at: endedAt,
      message: state === "copying" ? undefined : copy.last_failure,
    });
  }

  #tellFailedAttempt(work: EventWork, { attempt, last_failure: message, ...next }: Attempts): void {
    if (attempt === undefined || attempt < 2 || message === undefined) return;
    const name = `${work.work} ${work.store ?? ""}`;
    if (this.#failed.get(name) === attempt - 1) return;
    this.#failed.set(name, attempt - 1);
    this.#display.event({
      event: "attempt_failed",
      ...work,
      attempt: attempt - 1,
      next_attempt_at: next.next_attempt_at,
      message,
    });
  }

  #tellPause({ pause, paused_at: pausedAt }: ImportStatus): void {
    if (pause === this.#pause) return;
    this.#pause = pause;
    switch (pause) {
      case "running":
        this.#display.event({ event: "resumed" });
        break;
      case "pausing after this step":
        this.#display.event({ event: "pausing" });
        break;
      case "paused":
        this.#display.event({ event: "paused", paused_at: pausedAt });
        break;
    }
  }
}
