import {
  allHandlersFinished,
  CancellationScope,
  condition,
  workflowInfo,
} from "@temporalio/workflow";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { StoredCopy } from "../activities/store-image.ts";
import type { ImportRequest } from "../domain/import-request.ts";
import { Acceptance } from "./acceptance.ts";
import { Compensations, type Leftover, type Undo, type UndoReason } from "./compensations.ts";
import type { AcceptedCopy, ImportPhase } from "./contract.ts";
import { Copies } from "./copies.ts";
import { StepFailure } from "./failure-report.ts";
import { givingUp } from "./give-up-store.ts";
import { ImportTracker } from "./import-tracker.ts";
import { Pause } from "./pause.ts";

/** One step of an import. */
export interface Step {
  /** Its name in messages and logs. */
  readonly name: string;
  /** The store that it is about. */
  readonly store?: string;
  /** Its line in the Web UI. */
  readonly summary: string;
  /**
   * The effect of a pause: it stops the step, which runs again on resume, or it waits before the
   * step and lets a running step end. Default: none.
   */
  readonly pause?: "stops it" | "waits before it";
  /** True if neither a pause nor a cancel has an effect on the step. Default: false. */
  readonly isShielded?: boolean;
  /** Registered before the step begins, because a step can take effect and still fail. */
  readonly undo?: Undo;
}

/** The activity options that a step gives to its activity. */
export type StepOptions = Pick<Step, "summary">;

type StepWork<T> = (options: StepOptions) => Promise<T>;

/**
 * One run of an import: runs its steps, and undoes them.
 *
 * The order of commands in kept histories depends on the number of promises between a step and the
 * next one. That is why some functions here and in `import-image.ts` return a promise and are not
 * `async`.
 */
export class ImportRun {
  readonly tracker: ImportTracker;
  readonly pause: Pause;
  readonly acceptance: Acceptance;
  readonly copies: Copies;
  readonly #undos = new Compensations();
  readonly #imageId: string;
  #claimedBy: string;

  constructor(request: ImportRequest) {
    const { workflowId, runId } = workflowInfo();
    this.#imageId = request.image_id;
    this.tracker = new ImportTracker(request);
    this.pause = new Pause(
      () => {
        this.tracker.pauseChanged();
      },
      (signal, args) => {
        this.tracker.ignoredArguments(signal, args);
      },
    );
    this.tracker.showPauseOf(() => this.pause);
    this.acceptance = new Acceptance(request.request_id, { workflowId, runId });
    this.copies = new Copies();
    this.#claimedBy = runId;
    this.enter("accepting");
  }

  /** The image and this run, for its result. */
  get ids(): Pick<AcceptedCopy, "image_id" | "workflow_id" | "run_id"> {
    const { workflowId, runId } = workflowInfo();
    return { image_id: this.#imageId, workflow_id: workflowId, run_id: runId };
  }

  /** The run that took the claim. After a reset this can be an earlier run. */
  get claimedBy(): string {
    return this.#claimedBy;
  }

  /** The claim is taken. */
  accept(plan: ImportPlan): void {
    this.#claimedBy = plan.run_id;
    this.acceptance.accept(plan);
    this.tracker.accepted(plan);
    this.copies.plan(plan, givingUp(plan, this.tracker));
  }

  /** Begins a phase. */
  enter(phase: ImportPhase): void {
    this.tracker.enter(phase);
  }

  /**
   * Runs one step: registers its undo, waits while the import is paused, runs the work, and throws
   * its failure with the name of the step.
   *
   * @param work - calls one activity with the given options
   */
  async step<T>(step: Step, work: StepWork<T>): Promise<T> {
    if (step.undo !== undefined) this.#undos.register(step.undo);
    try {
      return await this.#heedingPause(step, () => work({ summary: step.summary }));
    } catch (error) {
      throw inPlace(error, step);
    }
  }

  /**
   * Runs the step that copies into one store.
   *
   * @returns undefined if the import continues without that store
   */
  async copy(
    step: Step & { readonly store: string },
    work: StepWork<StoredCopy>,
  ): Promise<StoredCopy | undefined> {
    const copying = () => this.tracker.copying(step.store, () => this.step(step, work));
    try {
      return await this.copies.make(step.store, copying);
    } catch (error) {
      throw inPlace(error, step);
    }
  }

  /** The image is published: the import cannot be paused any more, and the next one may begin. */
  publish(): void {
    this.pause.end();
    this.acceptance.end();
  }

  /**
   * Undoes all steps, the last one first.
   *
   * @returns what the undos left behind
   */
  undo(reason: UndoReason): Promise<Leftover[]> {
    return this.#undos.run(reason);
  }

  /** Waits until all callers of updates have their results: also in a run that was cancelled. */
  async handlersFinished(): Promise<void> {
    await CancellationScope.nonCancellable(() => condition(allHandlersFinished));
  }

  #heedingPause<T>({ pause, isShielded, store }: Step, work: () => Promise<T>): Promise<T> {
    if (pause === "stops it") {
      return this.pause.during(work, (failure) => {
        this.tracker.stopped(failure, store);
      });
    }
    if (pause === "waits before it") return this.pause.before(work);
    return isShielded === true ? shielded(work) : work();
  }
}

async function shielded<T>(work: () => Promise<T>): Promise<T> {
  return await CancellationScope.nonCancellable(work);
}

/** A failure with its place: that of the innermost step. */
function inPlace(error: unknown, step: Step): StepFailure {
  return error instanceof StepFailure ? error : new StepFailure(error, step);
}
