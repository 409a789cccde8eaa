import { randomUUID } from "node:crypto";
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
import { ImportError, isImportFailureCode } from "../domain/import-failure.ts";
import {
  parseImportRequest,
  type ImportMethod,
  type ImportRequest,
} from "../domain/import-request.ts";
import {
  CONTROL_QUEUE,
  dropStore,
  hintOf,
  IMPORT_ENDING,
  importWorkflowId,
  type AcceptedCopy,
  type AcceptedImport,
  type ImportOutcome,
  type ImportStatus,
} from "../workflow/contract.ts";
import { withLiveProgress } from "./live-progress.ts";
import { temporalFailure } from "./temporal-failure.ts";

/** What may be said of copies of an active image. */
export interface CopyOptions {
  /** The stores to fill. Default: the configured default store. */
  readonly stores?: readonly string[] | undefined;
  /** Fill every store that takes images. Default: false. */
  readonly allStores?: boolean | undefined;
  /** Whether the first store that fails for good fails the import. Default: true. */
  readonly allStoresMustSucceed?: boolean | undefined;
  /** Makes a repeated start harmless. Default: a new UUID. */
  readonly requestId?: string | undefined;
  /** How long to wait for a worker's verdict, in ms. Default: 60 s. */
  readonly acceptTimeoutMs?: number | undefined;
}

/** What may be said of an import. */
export interface StartOptions extends CopyOptions {
  /** How its bytes come to us. Default: `glance-direct`, from staging. */
  readonly method?: Exclude<ImportMethod, "copy-image"> | undefined;
  /**
   * `glance-direct`: a file below the staging root, `file:///…`; default: what was staged for the image. `web-download`:
   * an `http` or `https` URL.
   */
  readonly uri?: string | undefined;
  /** Give an image without a disk format the one that its bytes have. Default: false, such an image is refused. */
  readonly detectFormat?: boolean | undefined;
  /** What the bytes must hash to: `sha256:<hex>`, or `md5:` or `sha512:`. Default: nobody knows. */
  readonly checksum?: string | undefined;
  /** How many bytes there must be. Default: nobody knows. */
  readonly size?: number | undefined;
  /** Roles of who asks. Default: none. */
  readonly roles?: readonly string[] | undefined;
}

type RequestOptions = Omit<StartOptions, "method"> & { readonly method?: ImportMethod | undefined };

const DEFAULT_ACCEPT_TIMEOUT_MS = 60_000;
// A run whose claim is free closes within moments; longer than this something is wrong with it.
const ENDING_PATIENCE_MS = 30_000;

/** Starts, follows and steers imports. It needs Temporal alone. */
export class Imports {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** See `ImageImportClient.startImport`. */
  async start(imageId: string, options: StartOptions): Promise<AcceptedImport> {
    // Only copies of an image that is there already may turn out to be nothing to do.
    return (await this.#request(imageId, options)) as AcceptedImport;
  }

  /** See `ImageImportClient.copyImage`. */
  async copy(imageId: string, options: CopyOptions): Promise<AcceptedCopy> {
    return this.#request(imageId, { ...options, method: "copy-image" });
  }

  async #request(imageId: string, options: RequestOptions): Promise<AcceptedCopy> {
    const request = requestOf(imageId, options);
    const acceptTimeoutMs = options.acceptTimeoutMs ?? DEFAULT_ACCEPT_TIMEOUT_MS;
    const giveUpAtMs = Date.now() + ENDING_PATIENCE_MS;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#startOnce(request, attempt, acceptTimeoutMs);
      } catch (error) {
        const ending = endingRun(error);
        if (ending === undefined || Date.now() > giveUpAtMs) throw startFailure(error, imageId);
        await this.#closeOf(imageId, ending.runId, giveUpAtMs - Date.now());
      }
    }
  }

  /** See `ImageImportClient.waitForImport`. */
  async wait(imageId: string, runId: string | undefined): Promise<ImportOutcome> {
    try {
      // The id may stand for a later run of the same image: a given run is followed, and no other.
      const outcome: unknown = await this.#handle(imageId, runId).result();
      return outcome as ImportOutcome;
    } catch (error) {
      throw outcomeFailure(error, imageId);
    }
  }

  /** See `ImageImportClient.importStatus`. */
  async status(imageId: string): Promise<ImportStatus> {
    return (await this.#look(imageId)).status;
  }

  /** See `ImageImportClient.watchImport`. */
  async *watch(imageId: string, everyMs: number): AsyncGenerator<ImportStatus> {
    for (;;) {
      const { status, isOpen } = await this.#look(imageId);
      yield status;
      if (!isOpen) return;
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  /** See `ImageImportClient.pauseImport`. */
  async signal(imageId: string, name: "pauseImport" | "resumeImport"): Promise<void> {
    await this.#requireOpen(imageId);
    await translating(imageId, () => this.#handle(imageId).signal(name));
  }

  /** See `ImageImportClient.dropStore`. */
  async dropStore(imageId: string, store: string): Promise<readonly string[]> {
    const { runId } = await this.#requireOpen(imageId);
    try {
      const { stores } = await this.#handle(imageId, runId).executeUpdate(dropStore, {
        args: [store],
      });
      return stores;
    } catch (error) {
      if (error instanceof WorkflowUpdateFailedError) throw ofCause(error.cause, error);
      throw error instanceof WorkflowNotFoundError ? notFound(imageId) : temporalFailure(error);
    }
  }

  /** See `ImageImportClient.cancelImport`. */
  async cancel(imageId: string, wait: boolean): Promise<void> {
    const { runId } = await this.#requireOpen(imageId);
    const handle = this.#handle(imageId, runId);
    await translating(imageId, () => handle.cancel());
    if (!wait) return;
    try {
      await handle.result();
    } catch (error) {
      if (!(error instanceof WorkflowFailedError)) throw temporalFailure(error);
      if (!(error.cause instanceof CancelledFailure)) throw outcomeFailure(error, imageId);
      return;
    }
    throw new ImportError(
      "ImportEnded",
      `Image "${imageId}" became active before the cancel could stop it`,
    );
  }

  #handle(imageId: string, runId?: string): WorkflowHandle {
    return this.#client.workflow.getHandle(importWorkflowId(imageId), runId);
  }

  async #startOnce(
    request: ImportRequest,
    attempt: number,
    acceptTimeoutMs: number,
  ): Promise<AcceptedCopy> {
    const requestId = request.request_id ?? "";
    // A closed run goes on giving the answer that it gave to an update id; the next run must be asked under another.
    const updateId = attempt === 1 ? requestId : `${requestId}/${String(attempt)}`;
    const wanted = request.all_stores === true ? ["all stores"] : (request.stores ?? []);
    const stores = wanted.length === 0 ? "" : ` → ${wanted.join(", ")}`;
    const startWorkflowOperation = new WithStartWorkflowOperation("importImage", {
      workflowId: importWorkflowId(request.image_id),
      taskQueue: CONTROL_QUEUE,
      args: [request],
      workflowIdConflictPolicy: "USE_EXISTING",
      staticSummary: `import ${request.image_id}${stores}`,
      staticDetails: `Import of image \`${request.image_id}\` by \`${request.method ?? "glance-direct"}\`${stores}`,
    });
    return this.#client.withDeadline(Date.now() + acceptTimeoutMs, () =>
      this.#client.workflow.executeUpdateWithStart<Workflow, AcceptedCopy, [string]>(
        "acceptImport",
        {
          startWorkflowOperation,
          args: [requestId],
          updateId,
        },
      ),
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

  async #describe(imageId: string): Promise<WorkflowExecutionDescription> {
    return translating(imageId, () => this.#handle(imageId).describe());
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
    throw new ImportError(
      "ImportEnded",
      `The import of image "${imageId}" has ended already (${description.status.name.toLowerCase()})`,
    );
  }
}

function isOpen({ status }: WorkflowExecutionDescription): boolean {
  return status.name === "RUNNING" || status.name === "PAUSED";
}

function requestOf(imageId: string, options: RequestOptions): ImportRequest {
  const fields = {
    image_id: imageId,
    method: options.method ?? "glance-direct",
    request_id: options.requestId ?? randomUUID(),
    uri: options.uri,
    stores: options.stores,
    all_stores: options.allStores,
    all_stores_must_succeed: options.allStoresMustSucceed,
    detect_format: options.detectFormat,
    checksum: options.checksum,
    size: options.size,
    roles: options.roles,
  };
  // What was not said stands in no history.
  const said = Object.entries(fields).filter(([, value]) => value !== undefined);
  return parseImportRequest(Object.fromEntries(said));
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

/** The run that is ending, when that is why the start was refused; also when it closed before it could answer. */
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
  if (error instanceof WorkflowUpdateFailedError) return ofCause(error.cause, error);
  if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError || isDeadline(error)) {
    return new ImportError("TemporalUnavailable", `No worker has accepted image "${imageId}" yet`, {
      cause: error,
      hint: "The import is started and goes on when a worker runs (`image-import worker`); `image-import status` shows it.",
    });
  }
  return temporalFailure(error);
}

// gRPC's DEADLINE_EXCEEDED: the update was sent, and no verdict came in time.
const DEADLINE_EXCEEDED = 4;

function isDeadline(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && cause.code === DEADLINE_EXCEEDED) return true;
  }
  return false;
}

function outcomeFailure(error: unknown, imageId: string): unknown {
  if (error instanceof WorkflowNotFoundError) return notFound(imageId);
  if (error instanceof WorkflowFailedError) return ofCause(error.cause, error);
  return temporalFailure(error);
}

/** The failure that a run or an update ended with, as ours. */
function ofCause(cause: unknown, error: Error): unknown {
  if (cause instanceof CancelledFailure) {
    return new ImportError("ImportCancelled", "The import was cancelled", { cause: error });
  }
  if (cause instanceof TerminatedFailure) {
    return new ImportError(
      "ImportAbandoned",
      "The import was terminated; what it left is removed by the reconciler within minutes",
      { cause: error },
    );
  }
  if (cause instanceof ApplicationFailure && isImportFailureCode(cause.type)) {
    const hint = hintOf(cause.details);
    return new ImportError(cause.type, cause.message, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    });
  }
  return cause ?? error;
}
