import { randomUUID } from "node:crypto";
import type { Readable } from "node:stream";
import { Client, Connection } from "@temporalio/client";
import { temporalAddress, type TemporalAddress } from "../config/temporal-address.ts";
import type { Config } from "../config/config.ts";
import { notConfigured } from "../config/locate.ts";
import { directToLoopback } from "../config/proxy-environment.ts";
import { Database } from "../db/connect.ts";
import { beginCopyRemoval, beginDeletion, beginDiscarding } from "../db/deletion-records.ts";
import {
  changeImage,
  findImage,
  type ImageChanges,
  type ImageFilter,
  insertImage,
  listImages,
  listPublishedIds,
  moveImage,
} from "../db/image-records.ts";
import { readUsage } from "../db/quota-records.ts";
import { StoreMarkRecords } from "../db/store-mark-records.ts";
import { findTask, listTasks } from "../db/task-records.ts";
import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import { ImportError } from "../domain/import-failure.ts";
import { isUuid } from "../domain/import-request.ts";
import { NO_LIMITS } from "../domain/quota.ts";
import { SealingKeys } from "../sources/sealing-keys.ts";
import { needsSealing, parseWebUrl } from "../sources/web-url.ts";
import { StagingArea } from "../staging/staging-area.ts";
import { Stores } from "../stores/open-stores.ts";
import type {
  AcceptedCopy,
  AcceptedImport,
  ImportOutcome,
  ImportStatus,
} from "../workflow/contract.ts";
import {
  finishCopyRemoval,
  finishDeletion,
  type CopyRemovalState,
  type DeletionState,
} from "./delete-image.ts";
import { failureOfTask, reportOf, type ImportReport, type RunView } from "./import-report.ts";
import { imageView, taskView, type ImageView, type TaskView } from "./image-view.ts";
import { Imports, type CopyOptions, type StartOptions } from "./imports.ts";
import { readImage, verifyImage, type ReadOptions, type VerifiedLocation } from "./read-image.ts";
import {
  adoptStagedFile,
  dropStagedData,
  stageData,
  type StagedImage,
  type StageOptions,
  type StagingTools,
} from "./stage-image.ts";
import { temporalFailure } from "./temporal-failure.ts";
import { usageView, type UsageView } from "./usage-view.ts";

/**
 * How to reach the service. Whatever a verb needs and is not given makes that verb fail with
 * `NotConfigured`.
 */
export interface ClientOptions {
  /** Temporal's address. Default: Temporal's own environment variables, then `localhost:7233`. */
  readonly temporal?: TemporalAddress | { readonly address: string; readonly namespace?: string };
  /**
   * The catalogue, for the verbs on images and tasks. Starting, steering and following imports
   * don't need it.
   */
  readonly databaseUrl?: string | undefined;
  /** Staging area and stores of this host, for staging, download and verification. */
  readonly config?: Config | undefined;
}

/** What a new image is. */
export interface CreateImage {
  /** Default: a new UUID. */
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  readonly owner?: string | undefined;
  readonly diskFormat?: DiskFormat | undefined;
  readonly containerFormat?: ContainerFormat | undefined;
  readonly properties?: Readonly<Record<string, string>> | undefined;
  readonly tags?: readonly string[] | undefined;
}

export type { ImportReport, ImportState } from "./import-report.ts";

/** A store, as this host is configured. */
export interface StoreView {
  readonly name: string;
  /** `file` or `s3`. */
  readonly type: string;
  readonly default: boolean;
  /** Its images can be read; nothing is imported into it or removed from it. */
  readonly read_only: boolean;
  /** It is not touched at all. */
  readonly disabled: boolean;
  /** The path, or `s3://bucket/prefix`. */
  readonly location: string;
  /** Null when it is disabled: then nobody has looked. */
  readonly works: boolean | null;
  /** What is wrong, when it does not work. */
  readonly reason: string | null;
  /** Null when nobody knows, as of an S3 store. */
  readonly free_bytes: number | null;
  /**
   * Whether its place has the store's mark, or gets one by its first use; null when it does not
   * work or no catalogue is known.
   */
  readonly mark: "present" | "none yet" | null;
}

/** The result of an adoption: a place that is a store's from now on. */
export interface AdoptedStore {
  readonly name: string;
  readonly location: string;
  readonly mark: string;
  /** Whether the mark is new; else it lay there. */
  readonly is_new: boolean;
  /** How many of the newest copies in the catalogue were looked for there. */
  readonly looked_for: number;
  /** How many of them lie there. */
  readonly found: number;
}

/**
 * The typed way in: everything that the command line does. All failures are `ImportError`s with a
 * stable `code` and a `hint`.
 *
 * @example
 * ```ts
 * const client = await ImageImportClient.connect({ temporal: { address: "127.0.0.1:7233" } });
 * const { task_id } = await client.startImport("6d2f…");
 * const outcome = await client.waitForImport("6d2f…");
 * await client.close();
 * ```
 */
export class ImageImportClient {
  readonly #temporal: TemporalAddress;
  readonly #database: Database | undefined;
  readonly #config: Config | undefined;
  #connection: Connection | undefined;
  #imports: Imports | undefined;
  #stores: Stores | undefined;

  private constructor(options: ClientOptions) {
    this.#temporal = addressOf(options.temporal);
    this.#database =
      options.databaseUrl === undefined ? undefined : new Database({ url: options.databaseUrl });
    this.#config = options.config;
  }

  /** A client. Connections are made when a verb first needs them. */
  static async connect(options: ClientOptions = {}): Promise<ImageImportClient> {
    return new ImageImportClient(options);
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    await this.#connection?.close();
    await this.#database?.close();
  }

  // Imports: these need Temporal alone.

  /**
   * Starts the import of an image and answers once it is accepted; from then on it goes on without
   * this client.
   *
   * A URL with a query is sealed first, by a key of this host's configuration.
   *
   * @throws ImportError `BadRequest`, `UnknownStore`, `ImageNotFound`, `ImageConflict`,
   *   `ImageBusy`, `StagingBusy`, `QuotaExceeded`, `BadTaskConfiguration`, `NotConfigured`,
   *   `TemporalUnavailable`
   */
  async startImport(imageId: string, options: StartOptions = {}): Promise<AcceptedImport> {
    // What is no URL may hold a secret all the same, and would stand in the history of the run.
    if (options.method === "web-download" && options.uri !== undefined) parseWebUrl(options.uri);
    const uri = await this.#sealed(imageId, options.uri);
    return (await this.#ofTemporal()).start(imageId, { ...options, uri });
  }

  /** What may be a secret in a URL goes nowhere in clear. */
  async #sealed(imageId: string, uri: string | undefined): Promise<string | undefined> {
    if (uri === undefined || !needsSealing(uri)) return uri;
    if (this.#config === undefined) {
      throw notConfigured(
        "the configuration, whose key seals URLs with a query",
        "IMAGE_IMPORT_CONFIG",
      );
    }
    const { keyFile } = this.#config;
    const keys = keyFile === undefined ? new SealingKeys() : await SealingKeys.read(keyFile);
    return keys.seal(imageId, uri);
  }

  /**
   * Copies an active image into more stores, from whichever store has it; it stays active
   * meanwhile. Wait for the end and steer it like any other import.
   *
   * @throws ImportError `BadRequest` also when a named store has the image, `UnknownStore`,
   *   `ImageNotFound`, `ImageConflict`, `ImageBusy`, `CopyNotFound`, `TemporalUnavailable`
   */
  async copyImage(imageId: string, options: CopyOptions = {}): Promise<AcceptedCopy> {
    return (await this.#ofTemporal()).copy(imageId, options);
  }

  /**
   * Waits until an import has ended.
   *
   * @param runId - which run; default: the newest
   * @throws ImportError with the code of its failure; `ImportCancelled`; `ImportNotFound`
   */
  async waitForImport(imageId: string, runId?: string): Promise<ImportOutcome> {
    try {
      return await (await this.#ofTemporal()).wait(imageId, runId);
    } catch (error) {
      return await this.#recordedEnd(imageId, runId, error);
    }
  }

  /** The end of an import whose run can't tell it, as the catalogue has it. */
  async #recordedEnd(
    imageId: string,
    runId: string | undefined,
    error: unknown,
  ): Promise<ImportOutcome> {
    const isUntold =
      error instanceof ImportError &&
      (error.code === "ImportNotFound" || error.code === "ImportAbandoned");
    if (!isUntold || runId === undefined || this.#database === undefined) throw error;
    const tasks = await this.listTasks({ imageId });
    const task = tasks.find(({ run_id }) => run_id === runId);
    if (task === undefined) throw error;
    if (task.status === "success") return outcomeOf(await this.showImage(imageId), task);
    if (task.status === "failure") throw failureOfTask(task.message);
    throw error.code === "ImportAbandoned" ? error : failureOfTask(LOST);
  }

  /**
   * What the newest import of an image does now, with the bytes of its running steps.
   *
   * @throws ImportError `ImportNotFound`
   */
  async importStatus(imageId: string): Promise<ImportStatus> {
    return (await this.#ofTemporal()).status(imageId);
  }

  /**
   * Follows the newest import of an image until it has ended; the last status is that of its end.
   */
  async *watchImport(imageId: string, everyMs = 250): AsyncGenerator<ImportStatus> {
    yield* (await this.#ofTemporal()).watch(imageId, everyMs);
  }

  /**
   * Pauses the running import of an image.
   *
   * @returns whether a worker has taken it up; if not, Temporal keeps it for one
   * @throws ImportError `ImportNotFound`, `ImportEnded` also when it is too late for a pause
   */
  async pauseImport(imageId: string): Promise<boolean> {
    return (await this.#ofTemporal()).signal(imageId, "pauseImport");
  }

  /**
   * Lets a paused import go on.
   *
   * @returns as {@link ImageImportClient.pauseImport}
   * @throws ImportError `ImportNotFound`, `ImportEnded`
   */
  async resumeImport(imageId: string): Promise<boolean> {
    return (await this.#ofTemporal()).signal(imageId, "resumeImport");
  }

  /**
   * Lets the running import of an image go on without one of its stores: the copy there is stopped
   * and removed.
   *
   * @returns the stores that are left
   * @throws ImportError `ImportNotFound`, `ImportEnded`, `ImageConflict` when it is the last one,
   *   or the import does not copy to it any more, `NotAcceptedYet` when no worker answers
   */
  async dropStore(imageId: string, store: string): Promise<readonly string[]> {
    return (await this.#ofTemporal()).dropStore(imageId, store);
  }

  /**
   * Cancels the running import of an image; it undoes itself.
   * With `wait` it answers only once the import is clean.
   *
   * @returns as {@link ImageImportClient.pauseImport}
   * @throws ImportError `ImportNotFound`, `ImportEnded` also when it is too late to cancel it
   */
  async cancelImport(
    imageId: string,
    { wait = false }: { readonly wait?: boolean } = {},
  ): Promise<boolean> {
    return (await this.#ofTemporal()).cancel(imageId, wait);
  }

  // Images: these need the catalogue.

  /**
   * The quotas of the configuration hold, where this client has one. @throws ImportError
   * `BadRequest`, `ImageExists`, `QuotaExceeded`
   */
  async createImage(image: CreateImage): Promise<ImageView> {
    const id = image.id ?? randomUUID();
    requireUuid(id);
    return this.#catalogue().transaction(async (db) => {
      await insertImage(db, this.#config?.limits ?? NO_LIMITS, { ...image, id });
      return imageView(await findImage(db, id));
    });
  }

  /**
   * Changes name, formats, properties and tags; nothing that is not named. @throws ImportError
   * `ImageConflict`
   */
  async changeImage(imageId: string, changes: ImageChanges): Promise<ImageView> {
    requireUuid(imageId);
    return this.#catalogue().transaction(async (db) => {
      await changeImage(db, imageId, changes);
      return imageView(await findImage(db, imageId));
    });
  }

  /** @throws ImportError `ImageNotFound` */
  async showImage(imageId: string): Promise<ImageView> {
    requireUuid(imageId);
    return imageView(await this.#catalogue().query((db) => findImage(db, imageId)));
  }

  /** Newest first. */
  async listImages(filter: Partial<ImageFilter> = {}): Promise<ImageView[]> {
    const records = await this.#catalogue().query((db) =>
      listImages(db, { limit: 100, ...filter }),
    );
    return records.map(imageView);
  }

  /** `active → deactivated`: nobody may read it. @throws ImportError `IllegalTransition` */
  async deactivateImage(imageId: string): Promise<ImageView> {
    requireUuid(imageId);
    await this.#catalogue().transaction((db) => moveImage(db, imageId, "deactivated"));
    return this.showImage(imageId);
  }

  /** `deactivated → active`. @throws ImportError `IllegalTransition` */
  async reactivateImage(imageId: string): Promise<ImageView> {
    requireUuid(imageId);
    await this.#catalogue().transaction((db) => moveImage(db, imageId, "active"));
    return this.showImage(imageId);
  }

  /**
   * Deletes an image durably: nobody finds it from here on, an import of it is cancelled, and its
   * bytes are removed, also when a store or Temporal is away now.
   *
   * @param waitMs - how long to wait for the bytes to be gone. Default: 30 s
   */
  async deleteImage(imageId: string, waitMs = 30_000): Promise<DeletionState> {
    requireUuid(imageId);
    await this.#catalogue().transaction((db) => beginDeletion(db, imageId));
    return finishDeletion(() => this.#temporalClient(), imageId, waitMs);
  }

  /**
   * Deletes an image that no import holds and that was never published, with what is staged for it.
   *
   * @returns false, and changes nothing, when an import holds it, or it is published
   * @throws ImportError `ImageNotFound`
   */
  async discardImage(imageId: string, waitMs = 5_000): Promise<boolean> {
    requireUuid(imageId);
    const isDiscarded = await this.#catalogue().transaction((db) => beginDiscarding(db, imageId));
    if (isDiscarded) await finishDeletion(() => this.#temporalClient(), imageId, waitMs);
    return isDiscarded;
  }

  /**
   * Removes one copy of an active or deactivated image durably, and never its last: nobody reads it
   * from here on, and its bytes are removed, also when its store or Temporal is away now. Asked
   * again while it is removed, it goes on.
   *
   * @param waitMs - how long to wait for the bytes to be gone; `Infinity` waits as long as the
   *   removal can be followed. Default: 30 s
   * @throws ImportError `ImageNotFound`; `CopyNotFound`; `ImageConflict` when it is not published,
   *   or it is the last
   */
  async removeCopy(imageId: string, store: string, waitMs = 30_000): Promise<CopyRemovalState> {
    requireUuid(imageId);
    const { epoch, node } = await this.#catalogue().transaction((db) =>
      beginCopyRemoval(db, imageId, store),
    );
    const copy = { image_id: imageId, epoch, store, node };
    return finishCopyRemoval(() => this.#temporalClient(), copy, waitMs);
  }

  // Bytes: these need the catalogue, and the staging volume or the stores on this host.

  /**
   * Stages the data of a queued image, digesting it on the way.
   *
   * @throws ImportError `ImageNotFound`, `ImageConflict`, `StagingBusy`, `FileNotFound`,
   *   `UnusableFile`, `NoSpace`, `ImageTooLarge`, `QuotaExceeded`, `Interrupted`
   */
  async stageImage(
    imageId: string,
    source: string | Readable,
    options: StageOptions = {},
  ): Promise<StagedImage> {
    requireUuid(imageId);
    return stageData(await this.#staging(), imageId, source, options);
  }

  /**
   * Records a file that lies under the staging root already as the staged data of a queued image.
   */
  async adoptStaged(imageId: string, uri?: string): Promise<StagedImage> {
    requireUuid(imageId);
    return adoptStagedFile(await this.#staging(), imageId, uri);
  }

  /** Removes the staged data of an image that nobody imports; it is `queued` again. */
  async dropStaged(imageId: string): Promise<void> {
    requireUuid(imageId);
    await dropStagedData(await this.#staging(), imageId);
  }

  /**
   * Writes the bytes of an active image to a file, which appears only whole and verified, or to a
   * stream.
   *
   * @throws ImportError `ImageConflict` when it is not active, `DigestMismatch`
   */
  async downloadImage(imageId: string, options: ReadOptions): Promise<ImageView> {
    const image = await this.showImage(imageId);
    await readImage(this.#catalogue(), await this.#storesHere(), image, options);
    return image;
  }

  /** Reads every location of a published image and compares it with the recorded digests. */
  async verifyImage(
    imageId: string,
    onProgress?: (doneBytes: number) => void,
  ): Promise<VerifiedLocation[]> {
    requireUuid(imageId);
    return verifyImage(this.#catalogue(), await this.#storesHere(), imageId, onProgress);
  }

  /** {@link ImageImportClient.verifyImage} for every published image, by their ids. */
  async verifyAllImages(onProgress?: (doneBytes: number) => void): Promise<VerifiedLocation[]> {
    const verified: VerifiedLocation[] = [];
    for (let lastId: string | undefined; ;) {
      const afterId = lastId;
      const ids = await this.#catalogue().query((db) => listPublishedIds(db, afterId, PAGE_SIZE));
      for (const id of ids) verified.push(...(await this.#verifyUnlessGone(id, onProgress)));
      lastId = ids.at(-1);
      if (lastId === undefined) return verified;
    }
  }

  /**
   * An image may be deleted while a walk through all of them goes on; then nothing is left to
   * compare.
   */
  async #verifyUnlessGone(
    imageId: string,
    onProgress: ((doneBytes: number) => void) | undefined,
  ): Promise<VerifiedLocation[]> {
    try {
      return await this.verifyImage(imageId, onProgress);
    } catch (error) {
      const isGone = error instanceof ImportError && error.code === "ImageNotFound";
      if (isGone) return [];
      throw error;
    }
  }

  // Tasks, quotas and stores.

  /** Newest first. */
  async listTasks(
    filter: { readonly imageId?: string | undefined; readonly limit?: number } = {},
  ): Promise<TaskView[]> {
    const rows = await this.#catalogue().query((db) => listTasks(db, { limit: 100, ...filter }));
    return rows.map(taskView);
  }

  /** @throws ImportError `TaskNotFound` */
  async showTask(taskId: string): Promise<TaskView> {
    requireUuid(taskId, "task");
    return taskView(await this.#catalogue().query((db) => findTask(db, taskId)));
  }

  /**
   * How the newest import of an image stands, from the catalogue where there is one, with what its
   * own run says.
   *
   * @throws ImportError `ImageNotFound`; `ImportNotFound` when no import is on record
   */
  async importReport(imageId: string): Promise<ImportReport> {
    requireUuid(imageId);
    if (this.#database === undefined) {
      const newest = await (await this.#ofTemporal()).run(imageId);
      return reportOf({ imageId, image: undefined, task: undefined, newest, claimant: undefined });
    }
    // The run before the rows: what has ended when it is asked has its end in the rows.
    const newest = await this.#newestRun(imageId);
    const image = await this.showImage(imageId);
    const holder = image.os_glance_import_task;
    const task =
      holder === null
        ? (await this.listTasks({ imageId, limit: 1 }))[0]
        : await this.showTask(holder);
    const isOther = task !== undefined && newest !== "away" && newest?.run_id !== task.run_id;
    const claimant = isOther
      ? await (await this.#ofTemporal()).run(imageId, task.run_id)
      : undefined;
    return reportOf({ imageId, image, task, newest, claimant });
  }

  async #newestRun(imageId: string): Promise<RunView | undefined | "away"> {
    try {
      return await (await this.#ofTemporal()).run(imageId);
    } catch (error) {
      if (error instanceof ImportError && error.code === "TemporalUnavailable") return "away";
      throw error;
    }
  }

  /**
   * What an owner has of each quota, and what the configuration of this host allows.
   *
   * @param owner - null: the images that belong to nobody
   */
  async showUsage(owner: string | null): Promise<UsageView> {
    const { limits } = this.#requireConfig();
    return usageView(owner, limits, await this.#catalogue().query((db) => readUsage(db, owner)));
  }

  /**
   * The stores of this host, each looked at unless it is disabled.
   *
   * @param look - `trial` also writes something small into each that may be written, reads it back
   *   and removes it. Default: `writable`
   */
  async listStores(look: "writable" | "trial" = "writable"): Promise<StoreView[]> {
    const stores = await this.#storesHere();
    return Promise.all(
      stores.descriptions.map(async ({ name, type, location, isReadOnly, isDisabled }) => {
        const health = isDisabled ? undefined : await stores.get(name).check(look);
        return {
          name,
          type,
          default: name === stores.defaultName,
          read_only: isReadOnly,
          disabled: isDisabled,
          location,
          works: health?.works ?? null,
          reason: health?.reason ?? null,
          free_bytes: health?.freeBytes ?? null,
          mark: health?.mark ?? null,
        };
      }),
    );
  }

  /**
   * Makes the place of a store, as it is now, that of the store: one that was moved, replaced,
   * emptied, restored, or lost its mark. Copies that the catalogue lists and that do not lie there
   * count as missing from then on.
   *
   * @throws ImportError `UnknownStore`; `ImageConflict` when it is another store's place;
   *   `StoreUnavailable`, `PermissionDenied`; `NotConfigured` without a catalogue
   */
  async adoptStore(name: string): Promise<AdoptedStore> {
    const stores = await this.#storesHere();
    const adopted = await stores.get(name).adopt();
    const location = stores.descriptions.find((each) => each.name === name)?.location ?? "";
    return {
      name,
      location,
      mark: adopted.mark,
      is_new: adopted.isNew,
      looked_for: adopted.lookedFor,
      found: adopted.found,
    };
  }

  async #ofTemporal(): Promise<Imports> {
    this.#imports ??= new Imports(await this.#temporalClient());
    return this.#imports;
  }

  async #temporalClient(): Promise<Client> {
    try {
      this.#connection ??= await Connection.connect(this.#temporal.connection);
    } catch (error) {
      throw temporalFailure(error, this.#temporal.connection.address);
    }
    return new Client({ connection: this.#connection, namespace: this.#temporal.namespace });
  }

  #catalogue(): Database {
    if (this.#database !== undefined) return this.#database;
    throw notConfigured("the catalogue", "DATABASE_URL");
  }

  async #storesHere(): Promise<Stores> {
    const { stores, defaultStore } = this.#requireConfig();
    const records = this.#database && new StoreMarkRecords(this.#database);
    this.#stores ??= await Stores.open(stores, defaultStore, records);
    return this.#stores;
  }

  async #staging(): Promise<StagingTools> {
    const config = this.#requireConfig();
    return {
      database: this.#catalogue(),
      staging: await StagingArea.open(config.nodeStagingUri),
      hashAlgo: config.hashAlgo,
      timeToLiveMs: config.stagingTimeToLiveMs,
      bandwidthLimit: config.stagingBandwidthLimit,
      limits: config.limits,
    };
  }

  #requireConfig(): Config {
    if (this.#config !== undefined) return this.#config;
    throw notConfigured(
      "the configuration file with staging area and stores",
      "IMAGE_IMPORT_CONFIG",
    );
  }
}

const LOST =
  "Error: ImportAbandoned: Temporal has no run of this import any more, its history was deleted or lost; the reconciler undoes within minutes what it left";

/** What an import answered that has succeeded, as the catalogue has it. */
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

// How many ids a walk through all images asks for at a time.
const PAGE_SIZE = 500;

function addressOf(given: ClientOptions["temporal"]): TemporalAddress {
  if (given === undefined) return temporalAddress();
  if ("connection" in given) return given;
  return {
    namespace: given.namespace ?? "default",
    connection: directToLoopback({ address: given.address }),
  };
}

function requireUuid(id: string, what = "image"): void {
  if (isUuid(id)) return;
  throw new ImportError(
    "BadRequest",
    `"${id}" is no ${what} id: it must be a UUID such as 6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b, in lower case`,
  );
}
