import {
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type Client,
  type WorkflowExecutionDescription,
  type WorkflowHandle,
} from "@temporalio/client";
import { CancelledFailure, TerminatedFailure } from "@temporalio/common";
import { ImportError } from "../domain/import-failure.ts";
import {
  dropStore,
  imageIdOf,
  importWorkflowId,
  SEARCH_ATTRIBUTES,
  UNDO_LIMIT_MS,
  type ImportOutcome,
  type ImportStatus,
} from "../workflow/contract.ts";
import { findCanceller, requestCancel } from "../temporal/cancel-request.ts";
import { failureFrom } from "../temporal/failure-from.ts";
import { ended, tooLate } from "./ended-import.ts";
import { lookAtImport, type LookOptions } from "./import-looks.ts";
import type { RunView } from "./import-report.ts";
import { endedBeforeItAnswered, outcomeFailure, translating } from "./run-failures.ts";
import { accepted, resultOf } from "./run-result.ts";
import type { RunningImport } from "./running-import.ts";
import { chainOf, isOpen, stateOf } from "./described-run.ts";
import { withLiveProgress } from "../temporal/live-progress.ts";
import { temporalFailure } from "../temporal/temporal-failure.ts";

// The answer comes after the removal of the copy, which is an undo.
const DROP_PATIENCE_MS = UNDO_LIMIT_MS + 30_000;
// The user waits for it, also after Ctrl-C.
const LOOK_PATIENCE_MS = 5_000;
// A worker that runs answers a query within moments.
const ANSWER_PATIENCE_MS = 3_000;
const RUNNING_IMPORTS = `WorkflowType = "importImage" AND ExecutionStatus = "Running"`;

/** The runs of imports in Temporal. */
export class ImportRuns {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Finds the newest run of an image, within 5 s; undefined when Temporal has none. */
  async newest(imageId: string): Promise<WorkflowExecutionDescription | undefined> {
    try {
      return await this.#client.withDeadline(Date.now() + LOOK_PATIENCE_MS, () =>
        this.#describe(imageId),
      );
    } catch (error) {
      if (error instanceof ImportError && error.code === "ImportNotFound") return undefined;
      throw error;
    }
  }

  /** See `Imports.wait`. */
  async wait(imageId: string, runId: string | undefined): Promise<ImportOutcome> {
    try {
      let run = runId === undefined ? await this.#describe(imageId) : undefined;
      let followed = run?.runId ?? runId;
      for (;;) {
        try {
          // The id of the workflow may lead to a later import of this image. Follow the given run,
          // and the run that a reset made of it.
          return accepted(await resultOf(this.#handle(imageId, followed)));
        } catch (error) {
          run = await this.#successorOf(imageId, followed, error);
          if (run === undefined) throw error;
          followed = run.runId;
        }
      }
    } catch (error) {
      throw outcomeFailure(error, imageId);
    }
  }

  /** The run that a reset made of a run; undefined if the run ended for another reason. */
  async #successorOf(
    imageId: string,
    runId: string | undefined,
    error: unknown,
  ): Promise<WorkflowExecutionDescription | undefined> {
    const isTerminated =
      error instanceof WorkflowFailedError && error.cause instanceof TerminatedFailure;
    if (!isTerminated) return undefined;
    const [before, newest] = await Promise.all([
      this.#describe(imageId, runId),
      this.#describe(imageId),
    ]);
    const isSuccessor = newest.runId !== before.runId && chainOf(newest) === chainOf(before);
    return isSuccessor ? newest : undefined;
  }

  /**
   * One run of an image's import, as Temporal knows it.
   *
   * @param runId - default: the newest
   * @returns undefined when Temporal has no such run
   */
  async run(imageId: string, runId?: string): Promise<RunView | undefined> {
    try {
      const description = await this.#describe(imageId, runId);
      const handle = this.#handle(imageId, description.runId);
      const status = await this.#client
        .withDeadline(Date.now() + ANSWER_PATIENCE_MS, () =>
          handle.query<ImportStatus>("importStatus"),
        )
        // No worker runs, or the running one hangs.
        .catch(() => null);
      const isRefused =
        status === null && stateOf(description) === "completed"
          ? (await this.#endOf(imageId, handle)).status === "refused"
          : status?.phase === "refused";
      return {
        run_id: description.runId,
        first_run_id: chainOf(description),
        state: isRefused ? "refused" : stateOf(description),
        status: status === null ? null : withLiveProgress(status, description),
      };
    } catch (error) {
      if (error instanceof ImportError && error.code === "ImportNotFound") return undefined;
      throw error;
    }
  }

  /** The result of a run that has completed: the server has it, and answers within moments. */
  async #endOf(imageId: string, handle: WorkflowHandle): ReturnType<typeof resultOf> {
    return translating(imageId, () =>
      this.#client.withDeadline(Date.now() + ANSWER_PATIENCE_MS, () => resultOf(handle)),
    );
  }

  /** See `Imports.status`. */
  async status(imageId: string): Promise<ImportStatus> {
    // Described first: a run that is closed by now answers the query with its end.
    const description = await this.#describe(imageId);
    const handle = this.#handle(imageId, description.runId);
    const status = await translating(imageId, () => handle.query<ImportStatus>("importStatus"));
    return withLiveProgress(status, description);
  }

  /** See `Imports.watch`. */
  async *watch(
    imageId: string,
    { runId, ...options }: LookOptions & { readonly runId?: string | undefined },
  ): AsyncGenerator<ImportStatus> {
    const requests = {
      describe: () => this.#describe(imageId, runId),
      query: (described: string) =>
        translating(imageId, () =>
          this.#handle(imageId, described).query<ImportStatus>("importStatus"),
        ),
    };
    yield* lookAtImport(requests, options);
  }

  /** See `Imports.running`. */
  async running(): Promise<RunningImport[]> {
    const running: RunningImport[] = [];
    try {
      for await (const run of this.#client.workflow.list({ query: RUNNING_IMPORTS })) {
        const name = run.typedSearchAttributes.get(SEARCH_ATTRIBUTES.imageName) ?? null;
        running.push({ image_id: imageIdOf(run.workflowId), name, run_id: run.runId });
      }
    } catch (error) {
      throw temporalFailure(error);
    }
    return running;
  }

  /** See `Imports.pause`. */
  async signal(imageId: string, name: "pauseImport" | "resumeImport"): Promise<boolean> {
    const { runId } = await this.#requireOpen(imageId);
    const handle = this.#handle(imageId, runId);
    try {
      await handle.signal(name);
    } catch (error) {
      throw await this.#requestFailure(imageId, runId, error);
    }
    // A run answers a query after it has received the earlier signals.
    const status = (await this.run(imageId, runId))?.status ?? null;
    if (status === null) return false;
    if (name === "pauseImport" && status.pause === "running") {
      throw new ImportError(
        "ImportEnded",
        `Cannot pause the import of image "${imageId}": it is ${status.phase}, or was resumed meanwhile`,
      );
    }
    return true;
  }

  /** See `Imports.dropStore`. */
  async dropStore(imageId: string, store: string): Promise<readonly string[]> {
    const { runId } = await this.#requireOpen(imageId);
    const handle = this.#handle(imageId, runId);
    try {
      const { stores } = await this.#client.withDeadline(Date.now() + DROP_PATIENCE_MS, () =>
        handle.executeUpdate(dropStore, { args: [store] }),
      );
      return stores;
    } catch (error) {
      if (error instanceof WorkflowUpdateFailedError) {
        if (endedBeforeItAnswered(error)) throw await this.#endedMeanwhile(imageId, runId);
        throw failureFrom(error);
      }
      if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) {
        throw new ImportError(
          "NotAcceptedYet",
          `No worker has answered the request to drop store "${store}" of image "${imageId}"; it may still be dropped`,
          { cause: error, hint: `\`image-import status ${imageId}\` shows whether it was.` },
        );
      }
      throw await this.#requestFailure(imageId, runId, error);
    }
  }

  /** The failure of a request to a run that was open a moment ago. */
  async #requestFailure(imageId: string, runId: string, error: unknown): Promise<unknown> {
    if (!(error instanceof WorkflowNotFoundError)) return temporalFailure(error);
    return this.#endedMeanwhile(imageId, runId);
  }

  /** The failure of a request to a run that has ended meanwhile. */
  async #endedMeanwhile(imageId: string, runId: string): Promise<ImportError> {
    const { status } = await this.#describe(imageId, runId);
    return ended(imageId, status.name);
  }

  /** See `Imports.cancel`. */
  async cancel(imageId: string, { wait, by }: { wait: boolean; by: string }): Promise<boolean> {
    const { runId } = await this.#requireOpen(imageId);
    const handle = this.#handle(imageId, runId);
    const run = { workflowId: handle.workflowId, runId };
    try {
      await requestCancel(this.#client, run, by);
    } catch (error) {
      throw await this.#requestFailure(imageId, runId, error);
    }
    if (!wait) {
      const status = (await this.run(imageId, runId))?.status ?? null;
      const phase = status?.phase;
      if (phase === "unstaging" || phase === "done") throw tooLate(imageId);
      // Temporal also takes a request for a run that has closed.
      if (phase === "failed" || phase === "refused") throw ended(imageId, phase);
      return status !== null;
    }
    let status: string;
    try {
      ({ status } = await resultOf(handle));
    } catch (error) {
      if (!(error instanceof WorkflowFailedError)) throw temporalFailure(error);
      if (!(error.cause instanceof CancelledFailure)) throw outcomeFailure(error, imageId);
      return true;
    }
    throw status === "refused" ? ended(imageId, status) : tooLate(imageId);
  }

  /**
   * Finds the canceller of a run of an image's import, within 3 s.
   *
   * @returns undefined when Temporal does not know it
   */
  async canceller(imageId: string, runId: string): Promise<string | undefined> {
    const run = { workflowId: importWorkflowId(imageId), runId };
    return this.#client
      .withDeadline(Date.now() + ANSWER_PATIENCE_MS, () => findCanceller(this.#client, run))
      .catch(() => undefined);
  }

  /** Waits until a run closes, with whatever result, or until the time is over. */
  async closeOf(imageId: string, runId: string | undefined, patienceMs: number): Promise<void> {
    const closed = this.#handle(imageId, runId)
      .result()
      .catch(() => undefined);
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise((resolve) => {
      timer = setTimeout(resolve, Math.max(0, patienceMs));
    });
    await Promise.race([closed, patience]);
    clearTimeout(timer);
  }

  #handle(imageId: string, runId?: string): WorkflowHandle {
    return this.#client.workflow.getHandle(importWorkflowId(imageId), runId);
  }

  async #describe(imageId: string, runId?: string): Promise<WorkflowExecutionDescription> {
    return translating(imageId, () => this.#handle(imageId, runId).describe());
  }

  async #requireOpen(imageId: string): Promise<WorkflowExecutionDescription> {
    const description = await this.#describe(imageId);
    if (isOpen(description)) return description;
    throw ended(imageId, description.status.name);
  }
}
