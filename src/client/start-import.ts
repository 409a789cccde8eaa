import { setTimeout as sleep } from "node:timers/promises";
import {
  WithStartWorkflowOperation,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type Client,
  type WorkflowExecutionDescription,
} from "@temporalio/client";
import { ApplicationFailure, type Workflow } from "@temporalio/common";
import { ImportError } from "../domain/import-failure.ts";
import type { ImportRequest } from "../domain/import-request.ts";
import { failureFrom } from "../temporal/failure-from.ts";
import { temporalFailure } from "../temporal/temporal-failure.ts";
import {
  CONTROL_QUEUE,
  IMPORT_ENDING,
  importWorkflowId,
  type AcceptedCopy,
  type AcceptedImport,
} from "../workflow/contract.ts";
import { isOpen } from "./described-run.ts";
import { importDetails, importSummary } from "./import-summary.ts";
import { ImportRuns } from "./import-runs.ts";
import {
  requestOf,
  type CopyOptions,
  type RequestOptions,
  type StartOptions,
} from "./start-options.ts";
import { UnansweredStart, type WaitingRun } from "./unanswered-start.ts";

/** The limits of the wait for an acceptance. The time is one of `performance.now()`. */
interface Patience {
  readonly acceptUntilMs: number;
  readonly signal: AbortSignal;
}

/** The limits of a request, and what is sent with it. */
interface Sending extends Patience {
  readonly imageName: string | undefined;
}

/** Memo of a run: the request that started it. */
const REQUEST_ID = "request_id";

const DEFAULT_ACCEPT_TIMEOUT_MS = 60_000;
// A failed workflow task and a restarted server need moments.
const ASK_AGAIN_MS = 500;
// A run whose claim is free closes within moments; longer than this something is wrong with it.
const ENDING_PATIENCE_MS = 30_000;

/** The starts of imports: requests to Temporal whose answer may be lost. */
export class ImportStarts {
  readonly #client: Client;
  readonly #runs: ImportRuns;

  constructor(client: Client) {
    this.#client = client;
    this.#runs = new ImportRuns(client);
  }

  /** See `Imports.start`. */
  async start(imageId: string, options: StartOptions): Promise<AcceptedImport> {
    // Only the answer to a copy may be without a task: all the stores may have the image already.
    return (await this.#request(imageId, options)) as AcceptedImport;
  }

  /** See `Imports.copy`. */
  async copy(imageId: string, options: CopyOptions): Promise<AcceptedCopy> {
    return this.#request(imageId, { ...options, method: "copy-image" });
  }

  async #request(imageId: string, options: RequestOptions): Promise<AcceptedCopy> {
    const request = requestOf(imageId, options);
    const nowMs = performance.now();
    const { signal = new AbortController().signal } = options;
    const patience = {
      acceptUntilMs: nowMs + (options.acceptTimeoutMs ?? DEFAULT_ACCEPT_TIMEOUT_MS),
      signal,
    };
    const giveUpAtMs = nowMs + ENDING_PATIENCE_MS;
    // An earlier request with this id may have been executed without an answer.
    const before = options.requestId === undefined ? undefined : await this.#runs.newest(imageId);
    if (before !== undefined && isOf(before, request) && !isOpen(before)) {
      return this.#answerOf(imageId, before);
    }
    for (let attempt = 1; ;) {
      try {
        return await this.#startOnce(request, attempt, {
          ...patience,
          imageName: options.imageName,
        });
      } catch (error) {
        const ending = endingRun(error);
        if (ending === undefined) {
          const answer = await this.#withoutAnswer(request, error, patience);
          if (answer !== undefined) return answer;
        } else {
          if (performance.now() > giveUpAtMs || signal.aborted) throw startFailure(error, imageId);
          await this.#runs.closeOf(imageId, ending.runId, giveUpAtMs - performance.now());
          attempt += 1;
        }
      }
    }
  }

  /**
   * Finds the result of a request without an answer.
   *
   * @returns undefined if it must be sent again
   * @throws the refusal; `UnansweredStart` if the import was started, or may have been; else the
   *   reason why it was not
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
      newest = await this.#runs.newest(imageId);
    } catch (away) {
      if (away instanceof ImportError) throw UnansweredStart.unknown(imageId, away);
      throw away;
    }
    const isLate = signal.aborted || performance.now() >= acceptUntilMs;
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

  /** The answer to a request from its run, which has closed. */
  async #answerOf(imageId: string, { runId }: WorkflowExecutionDescription): Promise<AcceptedCopy> {
    const run = await this.#runs.run(imageId, runId);
    const taskId = run?.status?.task_id;
    if (taskId != null) {
      const workflow_id = importWorkflowId(imageId);
      return { image_id: imageId, task_id: taskId, workflow_id, run_id: runId };
    }
    const { image_id, task_id, workflow_id, run_id } = await this.#runs.wait(imageId, runId);
    return { image_id, task_id, workflow_id, run_id };
  }

  async #startOnce(
    request: ImportRequest,
    attempt: number,
    { acceptUntilMs, signal, imageName }: Sending,
  ): Promise<AcceptedCopy> {
    const requestId = request.request_id ?? "";
    // A closed run repeats its answer to an update id; the next run needs another id.
    const updateId = attempt === 1 ? requestId : `${requestId}/${String(attempt)}`;
    const startWorkflowOperation = new WithStartWorkflowOperation("importImage", {
      workflowId: importWorkflowId(request.image_id),
      taskQueue: CONTROL_QUEUE,
      args: [request],
      workflowIdConflictPolicy: "USE_EXISTING",
      // Identifies the run if its answer is lost.
      memo: { [REQUEST_ID]: requestId },
      staticSummary: importSummary(request, imageName),
      staticDetails: importDetails(request, imageName),
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
    const deadlineMs = Date.now() + acceptUntilMs - performance.now();
    // The SDK leaves a listener on the signal at every call: give each call a signal of its own.
    return this.#client.withAbortSignal(AbortSignal.any([signal]), () =>
      this.#client.withDeadline(deadlineMs, send),
    );
  }
}

/**
 * The earlier run, if it is the reason why the start was refused: it was about to end. The id is
 * undefined if that run closed before it answered.
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

/** The reason why no import was started: another one is open, an interruption, or the failure. */
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
    `The import of image "${imageId}" was not started: the request was interrupted`,
    { cause: failure },
  );
}
