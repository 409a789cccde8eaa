import { setTimeout as sleep } from "node:timers/promises";
import {
  WithStartWorkflowOperation,
  WorkflowFailedError,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type Client,
  type WorkflowExecutionDescription,
  type WorkflowHandle,
} from "@temporalio/client";
import {
  ApplicationFailure,
  CancelledFailure,
  TerminatedFailure,
  type Workflow,
} from "@temporalio/common";
import { ImportError } from "../domain/import-failure.ts";
import type { ImportRequest } from "../domain/import-request.ts";
import {
  CONTROL_QUEUE,
  dropStore,
  IMPORT_ENDING,
  importWorkflowId,
  type AcceptedCopy,
  type AcceptedImport,
  type ImportOutcome,
  type ImportStatus,
} from "../workflow/contract.ts";
import { failureFrom } from "../temporal/failure-from.ts";
import type { RunState, RunView } from "./import-report.ts";
import { withLiveProgress } from "../temporal/live-progress.ts";
import {
  requestOf,
  type CopyOptions,
  type RequestOptions,
  type StartOptions,
} from "./start-options.ts";
import { temporalFailure } from "../temporal/temporal-failure.ts";
import { UnansweredStart, type WaitingRun } from "./unanswered-start.ts";

/** The limits of the wait for an acceptance. */
interface Patience {
  readonly acceptUntilMs: number;
  readonly signal: AbortSignal;
}

/** Memo of a run: the request that started it. */
const REQUEST_ID = "request_id";

const DEFAULT_ACCEPT_TIMEOUT_MS = 60_000;
// The answer comes after the removal of the copy, which is tried for a minute.
const DROP_PATIENCE_MS = 90_000;
// A failed workflow task and a restarted server need moments.
const ASK_AGAIN_MS = 500;
// The user waits for it, also after Ctrl-C.
const LOOK_PATIENCE_MS = 5_000;
// A worker that runs answers a query within moments.
const ANSWER_PATIENCE_MS = 3_000;
// A run whose claim is free closes within moments; longer than this something is wrong with it.
const ENDING_PATIENCE_MS = 30_000;

/** The runs of imports in Temporal. */
export class ImportRuns {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** See `Imports.start`. */
  async start(imageId: string, options: StartOptions): Promise<AcceptedImport> {
    // Only copies of an image that is there already may turn out to be nothing to do.
    return (await this.#request(imageId, options)) as AcceptedImport;
  }

  /** See `Imports.copy`. */
  async copy(imageId: string, options: CopyOptions): Promise<AcceptedCopy> {
    return this.#request(imageId, { ...options, method: "copy-image" });
  }

  async #request(imageId: string, options: RequestOptions): Promise<AcceptedCopy> {
    const request = requestOf(imageId, options);
    const nowMs = Date.now();
    const { signal = new AbortController().signal } = options;
    const patience = {
      acceptUntilMs: nowMs + (options.acceptTimeoutMs ?? DEFAULT_ACCEPT_TIMEOUT_MS),
      signal,
    };
    const giveUpAtMs = nowMs + ENDING_PATIENCE_MS;
    // An earlier request with this id may have been executed without an answer.
    const before = options.requestId === undefined ? undefined : await this.#newest(imageId);
    if (before !== undefined && isOf(before, request) && !isOpen(before)) {
      return this.#answerOf(imageId, before);
    }
    for (let attempt = 1; ;) {
      try {
        return await this.#startOnce(request, attempt, patience);
      } catch (error) {
        const ending = endingRun(error);
        if (ending === undefined) {
          const answer = await this.#withoutAnswer(request, error, patience);
          if (answer !== undefined) return answer;
        } else {
          if (Date.now() > giveUpAtMs || signal.aborted) throw startFailure(error, imageId);
          await this.#closeOf(imageId, ending.runId, giveUpAtMs - Date.now());
          attempt += 1;
        }
      }
    }
  }

  /**
   * Finds the result of a request without an answer.
   *
   * @returns undefined if it must be sent again
   * @throws the refusal, or that the import is started, or that it is not
   */
  async #withoutAnswer(
    request: ImportRequest,
    error: unknown,
    { acceptUntilMs, signal }: Patience,
  ): Promise<AcceptedCopy | undefined> {
    const { image_id: imageId } = request;
    const failure = startFailure(error, imageId);
    if (error instanceof WorkflowUpdateFailedError) throw failure;
    if (isRefusal(failure) && !signal.aborted) throw failure;
    let newest: WorkflowExecutionDescription | undefined;
    try {
      newest = await this.#newest(imageId);
    } catch (away) {
      if (away instanceof ImportError) throw UnansweredStart.unknown(imageId, away);
      throw away;
    }
    const isLate = signal.aborted || Date.now() >= acceptUntilMs;
    if (newest !== undefined && isOf(newest, request)) {
      if (!isOpen(newest)) return this.#answerOf(imageId, newest);
      if (isLate) throw UnansweredStart.started(runOf(imageId, newest), error);
    } else if (isLate) {
      throw notStarted(imageId, newest, failure, signal);
    }
    // Temporal retries a failed workflow task, and a restarted server answers again.
    await sleep(ASK_AGAIN_MS, undefined, { signal }).catch(() => undefined);
    return undefined;
  }

  /** The newest run of an image, asked for in seconds; undefined when Temporal has none. */
  async #newest(imageId: string): Promise<WorkflowExecutionDescription | undefined> {
    try {
      return await this.#client.withDeadline(Date.now() + LOOK_PATIENCE_MS, () =>
        this.#describe(imageId),
      );
    } catch (error) {
      if (error instanceof ImportError && error.code === "ImportNotFound") return undefined;
      throw error;
    }
  }

  /** The answer to a request from its run, which has closed. */
  async #answerOf(imageId: string, { runId }: WorkflowExecutionDescription): Promise<AcceptedCopy> {
    const run = await this.run(imageId, runId);
    const taskId = run?.status?.task_id;
    if (taskId != null) {
      const workflow_id = importWorkflowId(imageId);
      return { image_id: imageId, task_id: taskId, workflow_id, run_id: runId };
    }
    const { image_id, task_id, workflow_id, run_id } = await this.wait(imageId, runId);
    return { image_id, task_id, workflow_id, run_id };
  }

  /** See `Imports.wait`. */
  async wait(imageId: string, runId: string | undefined): Promise<ImportOutcome> {
    try {
      let run = runId === undefined ? await this.#describe(imageId) : undefined;
      let followed = run?.runId ?? runId;
      for (;;) {
        try {
          // The id may stand for a later run of the same image: a given run is followed, and what a
          // reset made of it.
          const outcome: unknown = await this.#handle(imageId, followed).result();
          return outcome as ImportOutcome;
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

  /** The run with which a reset goes on, when that is why a run ended. */
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
        // No worker runs, or the one that runs stands still.
        .catch(() => null);
      return {
        run_id: description.runId,
        first_run_id: chainOf(description),
        state: stateOf(description),
        status: status === null ? null : withLiveProgress(status, description),
      };
    } catch (error) {
      if (error instanceof ImportError && error.code === "ImportNotFound") return undefined;
      throw error;
    }
  }

  /** See `Imports.status`. */
  async status(imageId: string): Promise<ImportStatus> {
    return (await this.#look(imageId)).status;
  }

  /** See `Imports.watch`. */
  async *watch(imageId: string, everyMs: number): AsyncGenerator<ImportStatus> {
    for (;;) {
      const { status, isOpen } = await this.#look(imageId);
      yield status;
      if (!isOpen) return;
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  /** See `Imports.pause`. */
  async signal(imageId: string, name: "pauseImport" | "resumeImport"): Promise<boolean> {
    const { runId } = await this.#requireOpen(imageId);
    const handle = this.#handle(imageId, runId);
    try {
      await handle.signal(name);
    } catch (error) {
      throw error instanceof WorkflowNotFoundError
        ? await this.#endedMeanwhile(imageId)
        : temporalFailure(error);
    }
    // A run answers a query after it has taken what was sent before.
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
        if (endedBeforeItAnswered(error)) throw await this.#endedMeanwhile(imageId);
        throw failureFrom(error);
      }
      if (error instanceof WorkflowNotFoundError) throw await this.#endedMeanwhile(imageId);
      if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) {
        throw new ImportError(
          "NotAcceptedYet",
          `No worker has answered the request to drop store "${store}" of image "${imageId}"; it may still be dropped`,
          { cause: error, hint: `\`image-import status ${imageId}\` shows whether it was.` },
        );
      }
      throw temporalFailure(error);
    }
  }

  /** The failure of a request to a run that was open a moment ago. */
  async #endedMeanwhile(imageId: string): Promise<ImportError> {
    const { status } = await this.#describe(imageId);
    return ended(imageId, status.name);
  }

  /** See `Imports.cancel`. */
  async cancel(imageId: string, wait: boolean): Promise<boolean> {
    const { runId } = await this.#requireOpen(imageId);
    const handle = this.#handle(imageId, runId);
    await translating(imageId, () => handle.cancel());
    if (!wait) {
      const status = (await this.run(imageId, runId))?.status ?? null;
      if (status?.phase === "unstaging" || status?.phase === "done") throw tooLate(imageId);
      return status !== null;
    }
    try {
      await handle.result();
    } catch (error) {
      if (!(error instanceof WorkflowFailedError)) throw temporalFailure(error);
      if (!(error.cause instanceof CancelledFailure)) throw outcomeFailure(error, imageId);
      return true;
    }
    throw tooLate(imageId);
  }

  #handle(imageId: string, runId?: string): WorkflowHandle {
    return this.#client.workflow.getHandle(importWorkflowId(imageId), runId);
  }

  async #startOnce(
    request: ImportRequest,
    attempt: number,
    { acceptUntilMs, signal }: Patience,
  ): Promise<AcceptedCopy> {
    const requestId = request.request_id ?? "";
    // A closed run repeats its answer to an update id; the next run needs another id.
    const updateId = attempt === 1 ? requestId : `${requestId}/${String(attempt)}`;
    const wanted = request.all_stores === true ? ["all stores"] : (request.stores ?? []);
    const stores = wanted.length === 0 ? "" : ` → ${wanted.join(", ")}`;
    const startWorkflowOperation = new WithStartWorkflowOperation("importImage", {
      workflowId: importWorkflowId(request.image_id),
      taskQueue: CONTROL_QUEUE,
      args: [request],
      workflowIdConflictPolicy: "USE_EXISTING",
      // Identifies the run if its answer is lost.
      memo: { [REQUEST_ID]: requestId },
      staticSummary: `import ${request.image_id}${stores}`,
      staticDetails: `Import of image \`${request.image_id}\` by \`${request.method ?? "glance-direct"}\`${stores}`,
    });
    const send = () =>
      this.#client.workflow.executeUpdateWithStart<Workflow, AcceptedCopy, [string]>(
        "acceptImport",
        {
          startWorkflowOperation,
          args: [requestId],
          updateId,
        },
      );
    signal.throwIfAborted();
    // The SDK leaves a listener on its signal for every call.
    return this.#client.withAbortSignal(AbortSignal.any([signal]), () =>
      this.#client.withDeadline(acceptUntilMs, send),
    );
  }

  async #closeOf(imageId: string, runId: string | undefined, patienceMs: number): Promise<void> {
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

  async #describe(imageId: string, runId?: string): Promise<WorkflowExecutionDescription> {
    return translating(imageId, () => this.#handle(imageId, runId).describe());
  }

  async #look(imageId: string): Promise<{ status: ImportStatus; isOpen: boolean }> {
    // Described first: a run that is closed by now answers the query with its end.
    const description = await this.#describe(imageId);
    const handle = this.#handle(imageId, description.runId);
    const status = await translating(imageId, () => handle.query<ImportStatus>("importStatus"));
    return {
      status: withLiveProgress(status, description),
      isOpen: isOpen(description),
    };
  }

  async #requireOpen(imageId: string): Promise<WorkflowExecutionDescription> {
    const description = await this.#describe(imageId);
    if (isOpen(description)) return description;
    throw ended(imageId, description.status.name);
  }
}

function ended(imageId: string, status: string): ImportError {
  return new ImportError(
    "ImportEnded",
    `The import of image "${imageId}" has ended already (${status.toLowerCase()})`,
  );
}

function tooLate(imageId: string): ImportError {
  return new ImportError(
    "ImportEnded",
    `Image "${imageId}" became active before the cancel could stop it`,
  );
}

/** True if the run closed before it answered an update. */
function endedBeforeItAnswered({ cause }: WorkflowUpdateFailedError): boolean {
  return cause instanceof ApplicationFailure && cause.type === "AcceptedUpdateCompletedWorkflow";
}

function isOpen({ status }: WorkflowExecutionDescription): boolean {
  return status.name === "RUNNING" || status.name === "PAUSED";
}

const RUN_STATES: Readonly<Record<string, RunState>> = {
  RUNNING: "open",
  PAUSED: "open",
  COMPLETED: "completed",
  CANCELLED: "cancelled",
  TERMINATED: "terminated",
  TIMED_OUT: "timed out",
};

function stateOf({ status }: WorkflowExecutionDescription): RunState {
  return RUN_STATES[status.name] ?? "failed";
}

/** The first run of the chain: a reset begins no new one. */
function chainOf({ raw, runId }: WorkflowExecutionDescription): string {
  const { firstRunId } = raw.workflowExecutionInfo ?? {};
  return firstRunId == null || firstRunId === "" ? runId : firstRunId;
}

async function translating<T>(imageId: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) throw notFound(imageId);
    throw temporalFailure(error);
  }
}

function notFound(imageId: string): ImportError {
  return new ImportError(
    "ImportNotFound",
    `Temporal knows no import of image "${imageId}" that could be asked`,
  );
}

/**
 * The run that is ending, when that is why the start was refused; also when it closed before it
 * could answer.
 */
function endingRun(error: unknown): { readonly runId: string | undefined } | undefined {
  if (!(error instanceof WorkflowUpdateFailedError)) return undefined;
  const { cause } = error;
  if (!(cause instanceof ApplicationFailure)) return undefined;
  if (cause.type === "AcceptedUpdateCompletedWorkflow") return { runId: undefined };
  if (cause.type !== IMPORT_ENDING) return undefined;
  const [runId] = cause.details ?? [];
  return { runId: typeof runId === "string" ? runId : undefined };
}

function startFailure(error: unknown, imageId: string): unknown {
  if (endingRun(error) !== undefined) {
    return new ImportError(
      "ImageBusy",
      `The import of image "${imageId}" that ran before has not closed yet`,
      { cause: error },
    );
  }
  if (error instanceof WorkflowUpdateFailedError) return failureFrom(error);
  const isUnanswered =
    error instanceof WorkflowUpdateRPCTimeoutOrCancelledError ||
    error instanceof WorkflowNotFoundError;
  if (isUnanswered) {
    return new ImportError("TemporalUnavailable", "The Temporal server did not answer in time", {
      cause: error,
    });
  }
  return temporalFailure(error);
}

/** True if the server would reject the request each time. */
function isRefusal(failure: unknown): boolean {
  return !(failure instanceof ImportError) || failure.code === "BadConfiguration";
}

/** True if this request started this run. */
function isOf({ memo }: WorkflowExecutionDescription, { request_id }: ImportRequest): boolean {
  return memo?.[REQUEST_ID] === request_id;
}

function runOf(imageId: string, { runId }: WorkflowExecutionDescription): WaitingRun {
  return { image_id: imageId, workflow_id: importWorkflowId(imageId), run_id: runId };
}

/** The reason for no start: another open import, an interruption, or Temporal is unreachable. */
function notStarted(
  imageId: string,
  newest: WorkflowExecutionDescription | undefined,
  failure: unknown,
  signal: AbortSignal,
): unknown {
  if (newest !== undefined && isOpen(newest)) {
    return new ImportError(
      "ImageBusy",
      `Another import of image "${imageId}" is open (run ${newest.runId}) and no worker answers for it; this one was not started`,
      { cause: failure },
    );
  }
  if (!signal.aborted) return failure;
  return new ImportError(
    "Interrupted",
    `The start of the import of image "${imageId}" was interrupted before it was made`,
    { cause: failure },
  );
}

function outcomeFailure(error: unknown, imageId: string): unknown {
  if (error instanceof WorkflowNotFoundError) return notFound(imageId);
  if (error instanceof WorkflowFailedError) return failureFrom(error);
  return temporalFailure(error);
}
