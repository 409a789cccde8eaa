import { notConfigured } from "../config/environment.ts";
import { ImportError } from "../domain/import-failure.ts";
import { SealingKeys } from "../sources/sealing-keys.ts";
import { joinToken, needsSealing, parseWebUrl } from "../sources/web-url.ts";
import type {
  AcceptedCopy,
  AcceptedImport,
  ImportOutcome,
  ImportStatus,
} from "../workflow/contract.ts";
import type { Administration } from "./administration.ts";
import type { Connections } from "./connections.ts";
import { imageView, taskView, type ImageView, type TaskView } from "./image-view.ts";
import type { Images } from "./images.ts";
import {
  failureOfImport,
  reportOf,
  type ImportReport,
  type KnownImports,
  type RunView,
} from "./import-report.ts";
import type { ImportRuns } from "./import-runs.ts";
import type { FoundRemote, RemoteImage } from "./remote-image.ts";
import type { RunningImport } from "./running-import.ts";
import type { ImportStarts } from "./start-import.ts";
import { requireId } from "./require-id.ts";
import type { CopyOptions, StartOptions } from "./start-options.ts";
import { Turns } from "./turns.ts";

/** Options of a cancellation. */
export interface CancelOptions {
  /** Returns only after the undo. Default: false */
  readonly wait?: boolean;
  /** The canceller, for the history of the run. Default: the user and host of this process */
  readonly by?: string;
}

/** Options of a report. */
export interface ReportOptions {
  /** Looks for the canceller at the end of the run's history in Temporal. Default: true */
  readonly withCanceller?: boolean;
}

/** The run that is watched, and the times at which it is looked at. */
export interface WatchOptions {
  /** Default: the newest run, also one that begins meanwhile */
  readonly runId?: string | undefined;
  /** The shortest time between two looks, in ms. Default: 250 */
  readonly everyMs?: number | undefined;
  /** Aborted when the import is known to have ended: the last look follows at once. */
  readonly ended?: AbortSignal | undefined;
  /**
   * The name of a group of callers, such as a project. The groups look in turn, whatever the number
   * of callers in each. Default: all callers are one group.
   */
  readonly party?: string | undefined;
}

// A look costs the server about as much as a step of a small import.
const LOOK_EVERY_MS = 125;

/**
 * Starts, steers and follows imports. Temporal alone is enough; `report`, and `wait` for an import
 * whose run is lost, also read the catalogue if one is configured.
 */
export class Imports {
  readonly #connections: Connections;
  readonly #images: Images;
  readonly #admin: Administration;
  readonly #turns = new Turns(LOOK_EVERY_MS);

  /** @internal */
  constructor(connections: Connections, images: Images, admin: Administration) {
    this.#connections = connections;
    this.#images = images;
    this.#admin = admin;
  }

  /**
   * Starts the import of an image and returns once a worker has accepted it. From then on the
   * import continues without this client.
   *
   * A URL with a query is encrypted first, with a key of this host's configuration.
   *
   * @throws ImportError `BadRequest`, `UnknownStore`, `ImageNotFound`, `ImageConflict`,
   *   `ImageBusy`, `StagingBusy`, `QuotaExceeded`, `BadTaskConfiguration`, `NotConfigured`,
   *   `NotAcceptedYet`, `TemporalUnavailable`
   */
  async start(imageId: string, options: StartOptions = {}): Promise<AcceptedImport> {
    // A malformed URL may hold a secret, too, and must not reach the history of the run.
    if (options.method === "web-download" && options.uri !== undefined) parseWebUrl(options.uri);
    const { token, ...sent } = options;
    const uri = await this.#sealed(imageId, options.uri, token);
    return (await this.#starts()).start(imageId, { ...sent, uri });
  }

  /**
   * Reads the document of an image of another service that speaks Glance's API, by the rules of
   * this host for downloads. The result is for the options of {@link Imports.start}.
   *
   * @throws ImportError `SourceRefused` if there is no such image with data; `SourceForbidden`,
   *   `SourceUnavailable`, `NotConfigured`
   */
  async findRemote(remote: RemoteImage): Promise<FoundRemote> {
    const { findRemote } = await import("./remote-image.ts");
    return findRemote(remote, this.#connections.requireConfig().web);
  }

  /**
   * Checks the URL of a download by the rules of this host, before an import begins.
   *
   * @throws ImportError `BadRequest`, `SourceForbidden`, `NotConfigured`
   */
  async checkSource(uri: string): Promise<void> {
    const { checkSource } = await import("./check-source.ts");
    await checkSource(uri, this.#connections.requireConfig().web);
  }

  /** Encrypts a URL whose query may be a secret, or that has a token. */
  async #sealed(
    imageId: string,
    uri: string | undefined,
    token: string | undefined,
  ): Promise<string | undefined> {
    if (uri === undefined || (token === undefined && !needsSealing(uri))) return uri;
    const { config } = this.#connections;
    if (config === undefined) {
      throw notConfigured(
        "the configuration, whose key seals URLs with a query",
        "IMAGE_IMPORT_CONFIG",
      );
    }
    const { keyFile } = config;
    const keys = keyFile === undefined ? new SealingKeys() : await SealingKeys.read(keyFile);
    return keys.seal(imageId, token === undefined ? uri : joinToken(uri, token));
  }

  /**
   * Copies an active image into more stores, from any store that has it. The image stays active.
   * Wait for the end and steer it like any other import.
   *
   * @throws ImportError `BadRequest`, also if a named store already has the image; `UnknownStore`,
   *   `ImageNotFound`, `ImageConflict`, `ImageBusy`, `CopyNotFound`, `NotAcceptedYet`,
   *   `TemporalUnavailable`
   */
  async copy(imageId: string, options: CopyOptions = {}): Promise<AcceptedCopy> {
    return (await this.#starts()).copy(imageId, options);
  }

  /**
   * Waits until an import has ended.
   *
   * @param runId - the run to wait for. Default: the newest
   * @throws ImportError with the code of its failure; `ImportCancelled`; `ImportNotFound`
   */
  async wait(imageId: string, runId?: string): Promise<ImportOutcome> {
    try {
      return await (await this.#runs()).wait(imageId, runId);
    } catch (error) {
      return await this.#recordedEnd(imageId, runId, error);
    }
  }

  /** The end of an import as the catalogue records it, for a run that Temporal has lost. */
  async #recordedEnd(
    imageId: string,
    runId: string | undefined,
    error: unknown,
  ): Promise<ImportOutcome> {
    const isLost =
      error instanceof ImportError &&
      (error.code === "ImportNotFound" || error.code === "ImportAbandoned");
    if (!isLost || runId === undefined || !this.#hasCatalogue) throw error;
    const tasks = await this.#admin.listTasks({ imageId });
    const task = tasks.find(({ run_id }) => run_id === runId);
    if (task === undefined) throw error;
    if (task.status === "success") return outcomeOf(await this.#images.show(imageId), task);
    if (task.status === "failure") throw failureOfImport(task);
    throw error.code === "ImportAbandoned" ? error : new ImportError("ImportAbandoned", LOST);
  }

  /**
   * The status of the newest import of an image, with the progress of its running steps.
   *
   * @throws ImportError `ImportNotFound`
   */
  async status(imageId: string): Promise<ImportStatus> {
    return (await this.#runs()).status(imageId);
  }

  /**
   * Yields the status of an import of an image until it has ended; the last is its end.
   * While nothing changes, looks are rare. All imports that a client watches share eight looks per
   * second, of one or two requests each.
   */
  async *watch(imageId: string, options: WatchOptions = {}): AsyncGenerator<ImportStatus> {
    const { runId, everyMs = 250, ended = new AbortController().signal, party } = options;
    const looks = { everyMs, ended, party, turns: this.#turns };
    yield* (await this.#runs()).watch(imageId, { runId, ...looks });
  }

  /**
   * The imports that run now, newest first. Temporal lists an import within seconds of its start.
   *
   * @throws ImportError `TemporalUnavailable`
   */
  async running(): Promise<RunningImport[]> {
    return (await this.#runs()).running();
  }

  /**
   * Pauses the running import of an image.
   *
   * @returns true if a worker has received the request; if not, Temporal keeps it for one
   * @throws ImportError `ImportNotFound`; `ImportEnded`, also if it is too late for a pause
   */
  async pause(imageId: string): Promise<boolean> {
    return (await this.#runs()).signal(imageId, "pauseImport");
  }

  /**
   * Resumes a paused import.
   *
   * @returns as {@link Imports.pause}
   * @throws ImportError `ImportNotFound`, `ImportEnded`
   */
  async resume(imageId: string): Promise<boolean> {
    return (await this.#runs()).signal(imageId, "resumeImport");
  }

  /**
   * Drops one store of the running import of an image: its copy there is stopped and removed, and
   * the import continues with the other stores.
   *
   * @returns the remaining stores
   * @throws ImportError `ImportNotFound`; `ImportEnded`; `ImageConflict` if it is the last store,
   *   or if the import no longer copies to it; `NotAcceptedYet` if no worker answers
   */
  async dropStore(imageId: string, store: string): Promise<readonly string[]> {
    return (await this.#runs()).dropStore(imageId, store);
  }

  /**
   * Cancels the running import of an image; the import undoes its work.
   * With `wait` this returns only after the undo.
   *
   * @returns as {@link Imports.pause}
   * @throws ImportError `ImportNotFound`; `ImportEnded`, also if it is too late to cancel it
   */
  async cancel(imageId: string, { wait = false, by }: CancelOptions = {}): Promise<boolean> {
    const { thisUser } = await import("../temporal/cancel-request.ts");
    return (await this.#runs()).cancel(imageId, { wait, by: by ?? thisUser() });
  }

  /**
   * Reports on the newest import of an image: its record in the catalogue, if one is configured,
   * and the status of its run.
   *
   * @throws ImportError `ImageNotFound`; `ImportNotFound` if no import is recorded
   */
  async report(
    imageId: string,
    { withCanceller = true }: ReportOptions = {},
  ): Promise<ImportReport> {
    const report = await this.#report(imageId);
    return withCanceller ? this.#withCanceller(report) : report;
  }

  async #report(imageId: string): Promise<ImportReport> {
    requireId(imageId);
    if (!this.#hasCatalogue) {
      const newest = await (await this.#runs()).run(imageId);
      return reportOf({ imageId, image: undefined, task: undefined, newest, claimant: undefined });
    }
    // The run is read before the rows: a run that has ended by now has its end in the rows.
    const newest = await this.#newestRun(imageId);
    const { image, task } = await this.#recorded(imageId);
    const isOther = task !== undefined && newest !== "away" && newest?.run_id !== task.run_id;
    const claimant = isOther ? await (await this.#runs()).run(imageId, task.run_id) : undefined;
    return reportOf({ imageId, image, task, newest, claimant });
  }

  /** An image and the task of its newest import, both as they are at one moment. */
  async #recorded(imageId: string): Promise<Pick<KnownImports, "image" | "task">> {
    const catalogue = await this.#connections.catalogue();
    const [{ findImage }, { findTaskOf }] = await Promise.all([
      import("../db/image-records.ts"),
      import("../db/task-records.ts"),
    ]);
    return catalogue.snapshot(async (db) => {
      const record = await findImage(db, imageId);
      const task = await findTaskOf(db, record.image);
      return { image: imageView(record), task: task && taskView(task) };
    });
  }

  async #withCanceller(report: ImportReport): Promise<ImportReport> {
    const { image_id: imageId, run_id: runId, failure } = report;
    if (failure?.code !== "ImportCancelled" || runId === null) return report;
    // While Temporal is unreachable, the report has only what the catalogue records.
    const canceller = await this.#runs()
      .then((runs) => runs.canceller(imageId, runId))
      .catch(() => undefined);
    return canceller === undefined ? report : { ...report, cancelled_by: canceller };
  }

  async #newestRun(imageId: string): Promise<RunView | undefined | "away"> {
    try {
      return await (await this.#runs()).run(imageId);
    } catch (error) {
      if (error instanceof ImportError && error.code === "TemporalUnavailable") return "away";
      throw error;
    }
  }

  get #hasCatalogue(): boolean {
    return this.#connections.databaseUrl !== undefined;
  }

  async #starts(): Promise<ImportStarts> {
    const { ImportStarts } = await import("./start-import.ts");
    return new ImportStarts(await this.#connections.temporal());
  }

  async #runs(): Promise<ImportRuns> {
    const { ImportRuns } = await import("./import-runs.ts");
    return new ImportRuns(await this.#connections.temporal());
  }
}

const LOST =
  "Temporal has no run of this import any more, its history was deleted or lost; the reconciler undoes within minutes what it left";

/** The outcome of an import that has succeeded, from its image and its task in the catalogue. */
function outcomeOf(image: ImageView, task: TaskView): ImportOutcome {
  return {
    image_id: image.id,
    task_id: task.id,
    workflow_id: task.workflow_id,
    run_id: task.run_id,
    status: "active",
    size: image.size ?? 0,
    virtual_size: image.virtual_size,
    checksum: image.checksum ?? "",
    os_hash_algo: image.os_hash_algo ?? "",
    os_hash_value: image.os_hash_value ?? "",
    stores: image.stores,
    unstaged: false,
  };
}
