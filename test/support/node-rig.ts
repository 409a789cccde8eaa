import { createHash, randomBytes, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Info } from "@temporalio/activity";
import { MockActivityEnvironment } from "@temporalio/testing";
import { DefaultLogger } from "@temporalio/worker";
import { sql, type SQL } from "drizzle-orm";
import { onTestFinished, vi } from "vitest";
import { Attempts } from "../../src/activities/attempts.ts";
import type { ImportPlan, NothingToCopy } from "../../src/activities/claim-import.ts";
import type { NodeDependencies } from "../../src/activities/dependencies.ts";
import type { DigestOrder } from "../../src/activities/digest-staged.ts";
import {
  createByteActivities,
  createControlActivities,
  createCleanUpActivities,
  type ByteActivities,
  type ControlActivities,
  type CleanUpActivities,
} from "../../src/activities/index.ts";
import type { FetchedImage, FetchOrder } from "../../src/activities/fetch-image.ts";
import type { SaveOrder } from "../../src/activities/save-image.ts";
import type { StoredCopy, StoreOrder } from "../../src/activities/store-image.ts";
import type { Transformed, TransformOrder } from "../../src/activities/transform-staged.ts";
import type { VerifiedStaging, VerifyOrder } from "../../src/activities/verify-staging.ts";
import { stageData, type StagingTools } from "../../src/client/stage-image.ts";
import type { Database } from "../../src/db/connect.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import type { NewImage } from "../../src/db/image-records.ts";
import { StoreMarkRecords } from "../../src/db/store-mark-records.ts";
import type { Digests } from "../../src/domain/digests.ts";
import { DEFAULT_FORMAT_POLICY, type FormatPolicy } from "../../src/domain/format-policy.ts";
import type { ImportFailureCode } from "../../src/domain/import-failure.ts";
import { NO_LIMITS, type Limits } from "../../src/domain/quota.ts";
import type {
  FileStoreSettings,
  S3StoreSettings,
  StoreSettings,
} from "../../src/domain/store-settings.ts";
import { SealingKeys } from "../../src/sources/sealing-keys.ts";
import { WebSource, type WebSourceSettings } from "../../src/sources/web-source.ts";
import { StagingArea } from "../../src/staging/staging-area.ts";
import { Stores } from "../../src/stores/open-stores.ts";
import { Transforms } from "../../src/transforms/open-transforms.ts";
import type { Transform } from "../../src/transforms/transform.ts";
import type { Catalogue } from "./catalogue.ts";
import { ChildProgram } from "./child-program.ts";
import { MIB } from "./mib.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

/** Settings of a {@link NodeRig}. */
export interface NodeRigOptions {
  /**
   * Of a file store what is not the default: a directory of the rig's own, without zero copy.
   * Default: `fast` and `slow`, both such.
   */
  readonly stores?: Readonly<Record<string, Partial<FileStoreSettings> | S3StoreSettings>>;
  readonly idleTimeoutMs?: number;
  readonly verifyOnPublish?: boolean;
  /** Default: nothing is limited. */
  readonly limits?: Limits;
  /** What is not the default. */
  readonly formatPolicy?: Partial<FormatPolicy>;
  /** Workflow ids whose runs are open in Temporal. Default: none is. */
  readonly openRuns?: readonly string[];
  /** Default: none. */
  readonly transforms?: readonly Transform[];
  /** Of downloads what is not as in {@link WEB_SETTINGS}. */
  readonly web?: Partial<WebSourceSettings>;
  readonly sealingKeys?: SealingKeys;
  /**
   * Makes the staging area's directory below that of the rig, and says its URI. Default: `staging`.
   */
  readonly makeStaging?: (directory: string) => Promise<string>;
}

/**
 * Downloads as they are by default, but that they may reach nothing at all: a test says which port
 * of which network.
 */
export const WEB_SETTINGS: WebSourceSettings = {
  schemes: ["http", "https"],
  ports: [443],
  allowedNetworks: [],
  allowedHosts: [],
  deniedHosts: [],
  connectTimeoutMs: 10_000,
  headerTimeoutMs: 15_000,
  idleTimeoutMs: 30_000,
  minimumRate: 1024,
};

/**
 * A worker's view of one staging volume and its stores, in a directory of the running test, on a
 * real catalogue.
 */
export class NodeRig {
  readonly directory: string;
  readonly catalogue: Catalogue;
  readonly dependencies: NodeDependencies;
  readonly storeSettings: Readonly<Record<string, StoreSettings>>;
  readonly webSettings: WebSourceSettings;
  readonly control: ControlActivities;
  readonly bytes: ByteActivities;
  readonly cleanUp: CleanUpActivities;

  constructor(
    directory: string,
    catalogue: Catalogue,
    dependencies: NodeDependencies,
    storeSettings: Readonly<Record<string, StoreSettings>>,
    webSettings: WebSourceSettings,
  ) {
    this.directory = directory;
    this.catalogue = catalogue;
    this.dependencies = dependencies;
    this.storeSettings = storeSettings;
    this.webSettings = webSettings;
    this.control = createControlActivities(dependencies);
    this.bytes = createByteActivities(dependencies);
    this.cleanUp = createCleanUpActivities(dependencies);
  }

  /** What staging in this volume needs. */
  get stagingTools(): StagingTools {
    const { database, staging, limits } = this.dependencies;
    return {
      database,
      staging,
      hashAlgo: "sha512",
      timeToLiveMs: 60_000,
      bandwidthLimit: undefined,
      limits,
    };
  }

  /** A file with these bytes that nobody has staged yet. */
  async upload(bytes: Buffer): Promise<string> {
    const path = join(this.directory, `upload-${randomUUID()}`);
    await writeFile(path, bytes);
    return path;
  }

  /** An image with these bytes staged by our own staging; `raw` unless said otherwise. */
  async stage(bytes: Buffer, fields: Partial<NewImage> = {}): Promise<string> {
    const imageId = await this.catalogue.newImage(fields);
    await stageData(this.stagingTools, imageId, await this.upload(bytes), {});
    return imageId;
  }

  /** Accepts the import of an image, by a new run. */
  async claim(
    imageId: string,
    fields: { stores?: string[]; uri?: string } = {},
  ): Promise<ImportPlan> {
    const claimant = {
      workflowId: `image-import/${imageId}`,
      runId: randomUUID(),
      taskId: randomUUID(),
    };
    return planOf(
      await this.control.claimImport({ image_id: imageId, stores: ["fast"], ...fields }, claimant),
    );
  }

  /** An image with these bytes staged and its import accepted. */
  async stageAndClaim(bytes: Buffer, stores: string[] = ["fast"]): Promise<ImportPlan> {
    return this.claim(await this.stage(bytes), { stores });
  }

  /**
   * The accepted import of a file that somebody else put into staging, digests unknown, and adopted
   * by its verdict.
   */
  async adoptAndClaim(bytes: Buffer, stores: string[] = ["fast"]): Promise<ImportPlan> {
    const name = `foreign-${randomUUID()}`;
    await writeFile(this.staged(name), bytes);
    const imageId = await this.catalogue.newImage();
    const plan = await this.claim(imageId, { stores, uri: this.uri(name) });
    await this.verify(plan);
    return plan;
  }

  /** Runs the undo of an acceptance. */
  async release(
    { image_id, run_id }: ImportPlan,
    message = "Error: ImportCancelled: store: it was cancelled",
    failedStores: readonly string[] = [],
    environment = activityEnvironment(),
  ): Promise<void> {
    const order = {
      image_id,
      workflow_id: `image-import/${image_id}`,
      run_id,
      message,
      failed_stores: failedStores,
    };
    await runStep(() => this.control.releaseImport(order), environment);
  }

  /** What a person does who deletes an image. */
  async beginDeletion(imageId: string): Promise<void> {
    await this.catalogue.database.transaction((db) => beginDeletion(db, imageId));
  }

  /** A queued image whose import by download is accepted. */
  async claimForFetch(stores: string[] = ["fast"]): Promise<ImportPlan> {
    const imageId = await this.catalogue.newImage();
    // Any: what is fetched decides where it comes from.
    return this.claim(imageId, { stores, uri: this.uri("nothing") });
  }

  /** Runs the download. */
  async fetch(
    plan: ImportPlan,
    uri: string,
    environment = activityEnvironment(),
  ): Promise<FetchedImage> {
    return runStep(() => this.bytes.fetchImage(fetchOrder(plan, uri)), environment);
  }

  /** Where the bytes lie that an import has fetched. */
  async fetchedPath(imageId: string): Promise<string> {
    return (await this.catalogue.staged(imageId))?.path ?? "nowhere";
  }

  /** Runs the undo of a download. */
  async discardFetched({ image_id, epoch }: ImportPlan): Promise<void> {
    await runStep(() => this.cleanUp.discardFetched({ image_id, epoch }));
  }

  /** The download in a process of its own, which the test stops, continues and kills. */
  fetchElsewhere(plan: ImportPlan, uri: string): ChildProgram {
    const order = fetchOrder(plan, uri);
    return this.#startElsewhere(FETCH_PROGRAM, { web: this.webSettings, order });
  }

  /** Runs the verdict on the staged bytes. */
  async verify(plan: ImportPlan, changes: Partial<VerifyOrder> = {}): Promise<VerifiedStaging> {
    const { image_id, uri, epoch, disk_format, container_format } = plan;
    const order = { image_id, uri, epoch, disk_format, container_format, ...changes };
    return runStep(() => this.bytes.verifyStaging(order));
  }

  /** Runs the digests of the staged bytes. */
  async digest(
    plan: ImportPlan,
    sizeBytes: number,
    environment = activityEnvironment(),
  ): Promise<Digests> {
    return runStep(() => this.bytes.digestStaged(digestOrder(plan, sizeBytes)), environment);
  }

  /** Runs a transform of the staged bytes, or of what another one made of them. */
  async transform(
    plan: ImportPlan,
    transform: string,
    changes: Partial<TransformOrder> = {},
    environment = activityEnvironment(),
  ): Promise<Transformed> {
    const order = transformOrder(plan, transform, changes);
    return runStep(() => this.bytes.transformStaged(order), environment);
  }

  /** Runs the undo of all transforms. */
  async discardProducts({ image_id, epoch }: ImportPlan): Promise<void> {
    await runStep(() => this.cleanUp.discardProducts({ image_id, epoch }));
  }

  /** Runs the copy into a store. */
  async store(
    plan: ImportPlan,
    sizeBytes: number,
    store = "fast",
    environment = activityEnvironment(),
  ): Promise<StoredCopy> {
    return runStep(() => this.bytes.storeImage(storeOrder(plan, sizeBytes, store)), environment);
  }

  /** Runs the undo of a copy. */
  async removeCopy(plan: ImportPlan, store = "fast"): Promise<void> {
    const { image_id, epoch } = plan;
    await runStep(() => this.cleanUp.removeCopy({ image_id, epoch, store }));
  }

  /** Publishes an image whose copies are made. */
  async activate({ image_id, epoch, task_id }: ImportPlan): Promise<void> {
    await runStep(() => this.control.activateImage({ image_id, epoch, task_id }));
  }

  /**
   * The whole import of an image into one store, step by step, but for its unstaging. Returns its
   * plan.
   */
  async import(bytes: Buffer, store = "fast"): Promise<ImportPlan> {
    const plan = await this.stageAndClaim(bytes, [store]);
    await this.finish(plan, bytes.length, store);
    return plan;
  }

  /** What is left of an import into one store after its acceptance, but for its unstaging. */
  async finish(plan: ImportPlan, sizeBytes: number, store = "fast"): Promise<void> {
    const digests = await this.digest(plan, sizeBytes);
    await this.publish(plan, digests, [await this.store(plan, sizeBytes, store)]);
  }

  /** An image whose import has one copy made and saved, and not yet published. */
  async saved(bytes: Buffer, stores: string[] = ["fast"]): Promise<ImportPlan> {
    const plan = await this.stageAndClaim(bytes, stores);
    const digests = await this.digest(plan, bytes.length);
    const copies = await Promise.all(stores.map((store) => this.store(plan, bytes.length, store)));
    await this.control.saveImage(saveOrder(plan, digests, copies));
    return plan;
  }

  /** Saves and activates an image whose copies are made. */
  async publish(plan: ImportPlan, digests: Digests, copies: readonly StoredCopy[]): Promise<void> {
    await this.control.saveImage(saveOrder(plan, digests, copies));
    await this.activate(plan);
  }

  /** The copy into a store in a process of its own, which the test stops, continues and kills. */
  storeElsewhere(
    plan: ImportPlan,
    sizeBytes: number,
    { store = "fast", bandwidthLimit }: { store?: string; bandwidthLimit?: number } = {},
  ): ChildProgram {
    const stores = Object.fromEntries(
      Object.entries(this.storeSettings).map(([name, each]) => [name, { ...each, bandwidthLimit }]),
    );
    const order = storeOrder(plan, sizeBytes, store);
    return this.#startElsewhere(STORE_PROGRAM, { stores, order });
  }

  /** A user's own transform in a process of its own, which the test stops, continues and kills. */
  transformElsewhere(order: TransformOrder, module: string): ChildProgram {
    return this.#startElsewhere(TRANSFORM_PROGRAM, { order, module });
  }

  /** The staging of a file in a process of its own, which the test stops, continues and kills. */
  stageElsewhere(imageId: string, path: string, bandwidthLimit: number): ChildProgram {
    return this.#startElsewhere(STAGE_PROGRAM, { imageId, path, bandwidthLimit });
  }

  get #storeFolders(): string[] {
    const names = Object.keys(this.storeSettings);
    return names.filter((name) => this.storeSettings[name]?.type === "file");
  }

  #startElsewhere(lines: string, given: object): ChildProgram {
    const stagingUri = pathToFileURL(join(this.directory, "staging")).href;
    const settings = { databaseUrl: this.catalogue.url, stagingUri, ...given };
    return ChildProgram.start(lines, { arguments: [JSON.stringify(settings)] });
  }

  /** Path of a file in the staging area. */
  staged(name: string): string {
    return join(this.directory, "staging", name);
  }

  /** The URI of a file in the staging area. */
  uri(name: string): string {
    return pathToFileURL(this.staged(name)).href;
  }

  /** Path of a file in a store. */
  stored(name: string, store = "fast"): string {
    return join(this.directory, store, name);
  }

  /** Path of the copy of an import in a store. */
  copyPath({ image_id, epoch }: ImportPlan, store = "fast"): string {
    return this.stored(`${image_id}.${String(epoch)}`, store);
  }

  /**
   * Names in a directory of the rig: `staging`, or a store; without what the area keeps for itself.
   */
  async names(folder: string): Promise<string[]> {
    const names = await readdir(join(this.directory, folder));
    return names.filter((name) => !name.startsWith(".")).sort();
  }

  /**
   * Waits until a private file, not the earlier one, holds so many bytes in a directory of the rig.
   * Returns its name.
   */
  async awaitPart(folder: string, sizeBytes: number, earlier?: string): Promise<string> {
    return vi.waitUntil(
      async () => {
        const part = (await this.names(folder)).find(
          (name) => name.endsWith(".part") && name !== earlier,
        );
        if (part === undefined) return undefined;
        // It may be published or removed between the two looks.
        const found = await stat(join(this.directory, folder, part)).catch(() => undefined);
        return found !== undefined && found.size >= sizeBytes ? part : undefined;
      },
      { timeout: 40_000, interval: 10 },
    );
  }

  /**
   * Waits until a copy that runs has all its bytes, synced, and is about to be published; there it
   * waits for these rows. It must be slow enough to be met while it copies.
   */
  async holdBeforePublishing({ image_id }: ImportPlan, store = "fast"): Promise<HeldRows> {
    await this.awaitPart(store, MIB);
    const claim = sql`SELECT 1 FROM images WHERE id = ${image_id}`;
    const rows = await HeldRows.hold(this.catalogue, claim);
    await rows.awaitWaiters();
    return rows;
  }

  /** The same for a copy that lies under its key, and is about to tell the catalogue so. */
  async holdBeforeTelling({ image_id }: ImportPlan, store = "fast"): Promise<HeldRows> {
    await this.awaitPart(store, MIB);
    const lease = sql`SELECT 1 FROM leases WHERE image_id = ${image_id} AND store = ${store}`;
    const rows = await HeldRows.hold(this.catalogue, lease);
    await rows.awaitWaiters();
    return rows;
  }

  /**
   * Everything that an import has in the catalogue and in file stores, to see whether anything
   * changes.
   */
  async snapshot(plan: ImportPlan): Promise<object> {
    const { catalogue } = this;
    const files: Record<string, object> = {};
    for (const folder of ["staging", ...this.#storeFolders]) {
      for (const name of await this.names(folder)) {
        const path = join(this.directory, folder, name);
        const { ino, mode, mtimeNs } = await stat(path, { bigint: true });
        const digest = createHash("sha256")
          .update(await readFile(path))
          .digest("hex");
        files[`${folder}/${name}`] = { ino, mode, mtimeNs, digest };
      }
    }
    return {
      image: await catalogue.image(plan.image_id),
      task: await catalogue.task(plan.task_id),
      leases: await catalogue.leases(plan.image_id),
      staged: await catalogue.staged(plan.image_id),
      files,
    };
  }
}

/** Opens a staging volume with its stores. */
export async function openNode(
  catalogue: Catalogue,
  {
    stores: storeOptions = { fast: {}, slow: {} },
    idleTimeoutMs = 60_000,
    verifyOnPublish = false,
    limits = NO_LIMITS,
    openRuns = [],
    transforms = [],
    formatPolicy = {},
    web = {},
    sealingKeys = new SealingKeys(),
    makeStaging = makeStagingDirectory,
  }: NodeRigOptions = {},
): Promise<NodeRig> {
  const directory = makeTemporaryDirectory();
  const stagingUri = await makeStaging(directory);
  const settings: Record<string, StoreSettings> = {};
  for (const [name, each] of Object.entries(storeOptions)) {
    if (each.type === "s3") {
      settings[name] = each;
      continue;
    }
    const path = join(directory, name);
    await mkdir(path);
    settings[name] = { type: "file", path, zeroCopy: false, ...each };
  }
  const webSettings = { ...WEB_SETTINGS, ...web };
  const stores = await Stores.open(
    settings,
    Object.keys(settings)[0] ?? "",
    await TestMarkRecords.of(catalogue),
  );
  // As a worker does at its start. A store that does not work is a matter of the test.
  await stores.prepare(5_000);
  const dependencies = {
    database: catalogue.database,
    stores,
    transforms: Transforms.of(transforms),
    staging: await StagingArea.open(stagingUri),
    attempts: new Attempts(),
    web: new WebSource(webSettings),
    sealingKeys,
    times: { deadlineMs: 60_000, heartbeatTimeoutMs: 15_000 },
    idleTimeoutMs,
    verifyOnPublish,
    formatPolicy: { ...DEFAULT_FORMAT_POLICY, ...formatPolicy },
    taskTimeToLiveMs: 48 * 3_600_000,
    stagingTimeToLiveMs: 60_000,
    hashAlgo: "sha512",
    limits,
    isRunOpen: async (workflowId: string) => openRuns.includes(workflowId),
    lastFailuresOf: async () => [],
  };
  return new NodeRig(directory, catalogue, dependencies, settings, webSettings);
}

/**
 * The marks of the running test's stores: copies that other tests made are in stores of the same
 * names elsewhere.
 */
class TestMarkRecords extends StoreMarkRecords {
  readonly #earlier: ReadonlySet<string>;

  private constructor(database: Database, earlier: ReadonlySet<string>) {
    super(database);
    this.#earlier = earlier;
  }

  static async of({ database }: Catalogue): Promise<TestMarkRecords> {
    const copies = await database.query((db) =>
      db.execute<{ key: string }>(sql`SELECT key FROM image_locations`),
    );
    await database.query((db) => db.execute(sql`DELETE FROM store_marks`));
    return new TestMarkRecords(database, new Set([...copies].map(({ key }) => key)));
  }

  override async listCopies(store: string, limit: number): Promise<{ readonly key: string }[]> {
    const copies = await super.listCopies(store, limit + this.#earlier.size);
    return copies.filter(({ key }) => !this.#earlier.has(key)).slice(0, limit);
  }
}

async function makeStagingDirectory(directory: string): Promise<string> {
  await mkdir(join(directory, "staging"));
  return pathToFileURL(join(directory, "staging")).href;
}

/**
 * How an import loses its image to somebody else, each with the orders that its late steps still
 * come with.
 */
export const WAYS_TO_LOSE_AN_IMAGE: readonly (readonly [
  string,
  (rig: NodeRig, plan: ImportPlan) => Promise<ImportPlan>,
])[] = [
  ["of an earlier epoch", async (_rig, plan) => ({ ...plan, epoch: plan.epoch - 1 })],
  ["of an epoch that never was", async (_rig, plan) => ({ ...plan, epoch: plan.epoch + 1 })],
  ["that was undone", after((rig, plan) => rig.release(plan))],
  ["whose image was deleted", after((rig, plan) => rig.beginDeletion(plan.image_id))],
  ["whose run was followed by another one", after((rig, plan) => rig.claim(plan.image_id))],
];

function after(happen: (rig: NodeRig, plan: ImportPlan) => Promise<unknown>) {
  return async (rig: NodeRig, plan: ImportPlan): Promise<ImportPlan> => {
    await happen(rig, plan);
    return plan;
  };
}

function fetchOrder({ image_id, epoch, task_id }: ImportPlan, uri: string): FetchOrder {
  return { image_id, epoch, task_id, uri };
}

/** The order of the digests. */
export function digestOrder(plan: ImportPlan, sizeBytes: number): DigestOrder {
  return { image_id: plan.image_id, uri: plan.uri, task_id: plan.task_id, size: sizeBytes };
}

/** The order of a transform of what was staged, unless said otherwise. */
export function transformOrder(
  { image_id, uri, epoch, task_id, disk_format, container_format }: ImportPlan,
  transform: string,
  changes: Partial<TransformOrder> = {},
): TransformOrder {
  const format = { disk_format: disk_format ?? "raw", container_format };
  const order = { image_id, uri, epoch, task_id, ...format };
  return { ...order, product: 0, roles: [], transform, ...changes };
}

/** The order of a copy. */
export function storeOrder(plan: ImportPlan, sizeBytes: number, store = "fast"): StoreOrder {
  return {
    image_id: plan.image_id,
    uri: plan.uri,
    epoch: plan.epoch,
    task_id: plan.task_id,
    store,
    size: sizeBytes,
  };
}

/** The order to save an image with these copies. */
export function saveOrder(
  { image_id, epoch }: ImportPlan,
  digests: Digests,
  copies: readonly StoredCopy[],
): SaveOrder {
  return { image_id, epoch, digests, virtual_size: null, copies };
}

/** Runs a step as an activity. */
export async function runStep<Result>(
  step: () => Promise<Result>,
  environment = activityEnvironment(),
): Promise<Result> {
  return environment.run(step);
}

/** Where an activity runs; silent, because a test tells its story by its expectations. */
export function activityEnvironment(info: Partial<Info> = {}): MockActivityEnvironment {
  return new MockActivityEnvironment(info, { logger: new DefaultLogger("ERROR") });
}

/** Random bytes: no two images are alike, and no block of them is zero. */
export function someBytes(sizeBytes: number): Buffer {
  return randomBytes(sizeBytes);
}

/** Rows that a transaction of somebody else holds: whoever wants them waits. */
export class HeldRows {
  readonly #database: Database;
  readonly #holding: Promise<void>;
  #letGo: () => void = () => undefined;

  private constructor(database: Database, select: SQL, isHeld: () => void) {
    this.#database = database;
    const letGo = new Promise<void>((resolve) => {
      this.#letGo = resolve;
    });
    this.#holding = database.transaction(async (db) => {
      await db.execute(sql`${select} FOR UPDATE`);
      isHeld();
      await letGo;
    });
  }

  /** Locks what a `SELECT` finds. It is let go when the test has finished, at the latest. */
  static async hold({ database }: Pick<Catalogue, "database">, select: SQL): Promise<HeldRows> {
    return new Promise((resolve, reject) => {
      const rows = new HeldRows(database, select, () => {
        resolve(rows);
      });
      rows.#holding.catch(reject);
      onTestFinished(() => rows.release());
    });
  }

  /** Waits until so many transactions wait for a row. */
  async awaitWaiters(count = 1): Promise<void> {
    await vi.waitUntil(async () => (await this.#countWaiters()) >= count, {
      timeout: 20_000,
      interval: 10,
    });
  }

  /** Lets them go, and waits until that has happened. */
  async release(): Promise<void> {
    this.#letGo();
    await this.#holding;
  }

  async #countWaiters(): Promise<number> {
    const [row] = await this.#database.query((db) =>
      db.execute<{ waiters: number }>(sql`
        SELECT count(*)::int AS waiters FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`),
    );
    return row?.waiters ?? 0;
  }
}

/** How a copy that ran in a process of its own ended. */
export type CopyOutcome = { readonly stored: StoredCopy } | { readonly code: ImportFailureCode };

/** How a copy or a staging that ran in a process of its own ended. */
export async function outcomeOf(program: ChildProgram): Promise<CopyOutcome> {
  const { stdout, stderr } = await program.result();
  if (stdout === "") throw new Error(`The program told nothing: ${stderr}`);
  return JSON.parse(stdout) as CopyOutcome;
}

// They run from dist, in the clone: what is a process of its own in production is one here.
const STORE_PROGRAM = `
  const { databaseUrl, stagingUri, stores, order } = JSON.parse(process.argv[1]);
  const { MockActivityEnvironment } = await import("@temporalio/testing");
  const { DefaultLogger } = await import("@temporalio/worker");
  const { Attempts } = await import("./dist/activities/attempts.js");
  const { storeImageActivities } = await import("./dist/activities/store-image.js");
  const { Database } = await import("./dist/db/connect.js");
  const { StoreMarkRecords } = await import("./dist/db/store-mark-records.js");
  const { StagingArea } = await import("./dist/staging/staging-area.js");
  const { Stores } = await import("./dist/stores/open-stores.js");
  const database = new Database({ url: databaseUrl });
  const { storeImage } = storeImageActivities({
    database,
    stores: await Stores.open(stores, order.store, new StoreMarkRecords(database)),
    staging: await StagingArea.open(stagingUri),
    attempts: new Attempts(),
    idleTimeoutMs: 60_000,
  });
  const environment = new MockActivityEnvironment({}, { logger: new DefaultLogger("ERROR") });
  const outcome = await environment.run(storeImage, order).then(
    (stored) => ({ stored }),
    (error) => ({ code: error.code ?? String(error) }),
  );
  process.stdout.write(JSON.stringify(outcome), () => process.exit());
`;

const TRANSFORM_PROGRAM = `
  const { databaseUrl, stagingUri, order, module } = JSON.parse(process.argv[1]);
  const { MockActivityEnvironment } = await import("@temporalio/testing");
  const { DefaultLogger } = await import("@temporalio/worker");
  const { Attempts } = await import("./dist/activities/attempts.js");
  const { transformStagedActivities } = await import("./dist/activities/transform-staged.js");
  const { Database } = await import("./dist/db/connect.js");
  const { StagingArea } = await import("./dist/staging/staging-area.js");
  const { Transforms } = await import("./dist/transforms/open-transforms.js");
  const { NO_LIMITS } = await import("./dist/domain/quota.js");
  const { transformStaged } = transformStagedActivities({
    database: new Database({ url: databaseUrl }),
    staging: await StagingArea.open(stagingUri),
    transforms: await Transforms.open({ order: [{ module }] }),
    limits: NO_LIMITS,
    attempts: new Attempts(),
    idleTimeoutMs: 60_000,
    stagingTimeToLiveMs: 60_000,
  });
  const environment = new MockActivityEnvironment({}, { logger: new DefaultLogger("ERROR") });
  const outcome = await environment.run(transformStaged, order).then(
    (transformed) => ({ transformed }),
    (error) => ({ code: error.code ?? String(error) }),
  );
  process.stdout.write(JSON.stringify(outcome), () => process.exit());
`;

const FETCH_PROGRAM = `
  const { databaseUrl, stagingUri, web, order } = JSON.parse(process.argv[1]);
  const { MockActivityEnvironment } = await import("@temporalio/testing");
  const { DefaultLogger } = await import("@temporalio/worker");
  const { Attempts } = await import("./dist/activities/attempts.js");
  const { fetchImageActivities } = await import("./dist/activities/fetch-image.js");
  const { Database } = await import("./dist/db/connect.js");
  const { SealingKeys } = await import("./dist/sources/sealing-keys.js");
  const { WebSource } = await import("./dist/sources/web-source.js");
  const { StagingArea } = await import("./dist/staging/staging-area.js");
  const { NO_LIMITS } = await import("./dist/domain/quota.js");
  const { fetchImage } = fetchImageActivities({
    database: new Database({ url: databaseUrl }),
    staging: await StagingArea.open(stagingUri),
    web: new WebSource(web),
    sealingKeys: new SealingKeys(),
    limits: NO_LIMITS,
    attempts: new Attempts(),
    hashAlgo: "sha512",
    stagingTimeToLiveMs: 60_000,
    idleTimeoutMs: 60_000,
  });
  const environment = new MockActivityEnvironment({}, { logger: new DefaultLogger("ERROR") });
  const outcome = await environment.run(fetchImage, order).then(
    (fetched) => ({ fetched }),
    (error) => ({ code: error.code ?? String(error) }),
  );
  process.stdout.write(JSON.stringify(outcome), () => process.exit());
`;

const STAGE_PROGRAM = `
  const { databaseUrl, stagingUri, imageId, path, bandwidthLimit } = JSON.parse(process.argv[1]);
  const { stageData } = await import("./dist/client/stage-image.js");
  const { Database } = await import("./dist/db/connect.js");
  const { StagingArea } = await import("./dist/staging/staging-area.js");
  const { NO_LIMITS } = await import("./dist/domain/quota.js");
  const tools = {
    database: new Database({ url: databaseUrl }),
    staging: await StagingArea.open(stagingUri),
    hashAlgo: "sha512",
    timeToLiveMs: 60_000,
    bandwidthLimit,
    limits: NO_LIMITS,
  };
  const outcome = await stageData(tools, imageId, path, {}).then(
    (staged) => ({ staged }),
    (error) => ({ code: error.code ?? String(error) }),
  );
  process.stdout.write(JSON.stringify(outcome), () => process.exit());
`;

/** The plan of an import that has something to do. */
export function planOf(answer: ImportPlan | NothingToCopy): ImportPlan {
  if ("task_id" in answer) return answer;
  throw new Error(
    `Nothing to copy: image ${answer.image_id} is in ${answer.already_in.join(", ")}`,
  );
}
