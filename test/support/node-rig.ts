import { createHash, randomBytes, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Info } from "@temporalio/activity";
import { MockActivityEnvironment } from "@temporalio/testing";
import { DefaultLogger } from "@temporalio/worker";
import { sql, type SQL } from "drizzle-orm";
import { test, vi } from "vitest";
import { Attempts } from "../../src/activities/attempts.ts";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import type { NodeDependencies } from "../../src/activities/dependencies.ts";
import {
  createByteActivities,
  createControlActivities,
  createCleanUpActivities,
  type ByteActivities,
  type ControlActivities,
  type CleanUpActivities,
} from "../../src/activities/index.ts";
import type { Published, PublishOrder } from "../../src/activities/publish-image.ts";
import type { FetchedImage } from "../../src/activities/fetch-image.ts";
import type { StoredCopy } from "../../src/activities/store-image.ts";
import type { Transformed, TransformOrder } from "../../src/activities/transform-staged.ts";
import type { VerifiedStaging, VerifyOrder } from "../../src/activities/verify-staging.ts";
import { stageData, type StagingTools } from "../../src/client/stage-image.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import type { NewImage } from "../../src/db/image-records.ts";
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
import { HeldCopies } from "./held-copies.mjs";
import { HeldRows } from "./held-rows.ts";
import { MIB } from "./mib.ts";
import {
  digestOrder,
  fetchOrder,
  planOf,
  saveOrder,
  storeOrder,
  transformOrder,
} from "./step-orders.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";
import { TestMarkRecords } from "./test-mark-records.ts";
import { PATIENCE } from "./patience.ts";
import { storePlace } from "../../src/domain/place.ts";

/** Settings of a copy in a process of its own. */
export interface ElsewhereOptions {
  /** Default: `fast`. */
  readonly store?: string;
  /** It waits in the middle of its bytes until its program is released. Default: false. */
  readonly isHeld?: boolean;
}

/** Settings of a {@link NodeRig}. */
export interface NodeRigOptions {
  /**
   * The stores. By default a file store has a directory of the rig's own, and no zero copy.
   * Default: `fast` and `slow`, both such.
   */
  readonly stores?: Readonly<Record<string, Partial<FileStoreSettings> | S3StoreSettings>>;
  readonly idleTimeoutMs?: number;
  readonly verifyOnPublish?: boolean;
  /** Default: nothing is limited. */
  readonly limits?: Limits;
  /** Changes of the default policy. */
  readonly formatPolicy?: Partial<FormatPolicy>;
  /** Workflow ids whose runs are open in Temporal. Default: none is. */
  readonly openRuns?: readonly string[];
  /** Runs that have closed, by their own ids. Default: none. */
  readonly closedRuns?: readonly string[];
  /** Default: none. */
  readonly transforms?: readonly Transform[];
  /** Changes of {@link WEB_SETTINGS}. */
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

  /** The tools for staging in this volume. */
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

  /** A file with these bytes, not yet staged. */
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

  /**
   * Accepts the import of an image.
   *
   * @param runId - default: a new run
   */
  async claim(
    imageId: string,
    fields: { stores?: string[]; uri?: string; method?: "copy-image" } = {},
    runId: string = randomUUID(),
  ): Promise<ImportPlan> {
    const workflowId = `image-import/${imageId}`;
    const claimant = { workflowId, runId, taskId: randomUUID() };
    const request = { image_id: imageId, stores: ["fast"], ...fields };
    return planOf(
      await runStep(
        () => this.control.claimImport(request, claimant),
        activityEnvironment({ workflowExecution: { workflowId, runId } }),
      ),
    );
  }

  /** An image with these bytes staged and its import accepted. */
  async stageAndClaim(bytes: Buffer, stores: string[] = ["fast"]): Promise<ImportPlan> {
    return this.claim(await this.stage(bytes), { stores });
  }

  /**
   * The accepted import of a file that another program put into staging, digests unknown, and
   * adopted by its verdict.
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

  /** Deletes an image, as a user does. */
  async beginDeletion(imageId: string): Promise<void> {
    await this.catalogue.database.transaction((db) => beginDeletion(db, imageId));
  }

  /** A queued image whose import by download is accepted. */
  async claimForFetch(stores: string[] = ["fast"]): Promise<ImportPlan> {
    const imageId = await this.catalogue.newImage();
    // Any: the order of the download names its source.
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

  /** The path of the download of an import. */
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
    return this.#startElsewhere("fetch-image", { web: this.webSettings, order });
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

  /** Runs the rest of an import into one store after its acceptance, except its unstaging. */
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

  /** Makes all copies of an import. Returns the order to publish its image in one step. */
  async publishOrder(plan: ImportPlan, sizeBytes: number): Promise<PublishOrder> {
    const digests = await this.digest(plan, sizeBytes);
    const copies = await Promise.all(
      plan.stores.map((store) => this.store(plan, sizeBytes, store)),
    );
    return { task_id: plan.task_id, ...saveOrder(plan, digests, copies) };
  }

  /** Publishes an image in one step. */
  async publishAtOnce(order: PublishOrder): Promise<Published> {
    return runStep(() => this.cleanUp.publishImage(order));
  }

  /** The same in a process of its own, which the test stops, continues and kills. */
  publishElsewhere(order: PublishOrder): ChildProgram {
    return this.#startElsewhere("publish-image", { settings: this.storeSettings, order });
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
    { store = "fast", isHeld = false }: ElsewhereOptions = {},
  ): ChildProgram {
    const order = storeOrder(plan, sizeBytes, store);
    const settings = { [store]: this.storeSettings[store] };
    return this.#startElsewhere("store-image", { settings, order, isHeld });
  }

  /**
   * A copy in a process of its own that waits in the middle of its bytes, once it has begun. The
   * program's `release` lets it continue.
   */
  async heldElsewhere(
    plan: ImportPlan,
    sizeBytes: number,
  ): Promise<{ readonly writer: ChildProgram; readonly part: string }> {
    const writer = this.storeElsewhere(plan, sizeBytes, { isHeld: true });
    return { writer, part: await this.awaitPart("fast", 2 * MIB) };
  }

  /** Holds the copies into a store in this process in the middle of their bytes. */
  holdCopies(store = "fast"): HeldCopies {
    return HeldCopies.in(this.dependencies.stores, store);
  }

  /**
   * A user's own transform in a process of its own, with these variables in its environment. The
   * test stops, continues and kills it.
   */
  transformElsewhere(
    order: TransformOrder,
    module: string,
    env: NodeJS.ProcessEnv = {},
  ): ChildProgram {
    return this.#startElsewhere("transform-staged", { order, module }, env);
  }

  /**
   * The staging of a file in a process of its own, which the test stops, continues and kills. It
   * writes the first MiB, and no more.
   */
  stageElsewhere(imageId: string, path: string): ChildProgram {
    return this.#startElsewhere("stage-image", { imageId, path });
  }

  get #storeFolders(): string[] {
    const names = Object.keys(this.storeSettings);
    return names.filter((name) => this.storeSettings[name]?.type === "file");
  }

  #startElsewhere(program: string, given: object, env: NodeJS.ProcessEnv = {}): ChildProgram {
    const stagingUri = pathToFileURL(join(this.directory, "staging")).href;
    const settings = { databaseUrl: this.catalogue.url, stagingUri, ...given };
    return ChildProgram.start(`${program}.mjs`, { arguments: [JSON.stringify(settings)], env });
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
    return vi.waitUntil(async () => {
      const part = (await this.names(folder)).find(
        (name) => name.endsWith(".part") && name !== earlier,
      );
      if (part === undefined) return undefined;
      // It may be published or removed between the two looks.
      const found = await stat(join(this.directory, folder, part)).catch(() => undefined);
      return found !== undefined && found.size >= sizeBytes ? part : undefined;
    }, PATIENCE);
  }

  /**
   * Releases a held copy, and waits until it has all its bytes, synced, and is about to be
   * published; there it waits for these rows.
   */
  async holdBeforePublishing(
    { image_id }: ImportPlan,
    copy: { release(): void },
  ): Promise<HeldRows> {
    return this.#holdAt(sql`SELECT 1 FROM images WHERE id = ${image_id}`, copy);
  }

  /**
   * Releases a held copy, and waits until it lies under its key, and is about to record that in the
   * catalogue.
   */
  async holdBeforeRecording(
    { image_id }: ImportPlan,
    copy: { release(): void },
    store = "fast",
  ): Promise<HeldRows> {
    return this.#holdAt(
      sql`SELECT 1 FROM leases WHERE image_id = ${image_id} AND place = ${storePlace(store)}`,
      copy,
    );
  }

  async #holdAt(select: SQL, copy: { release(): void }): Promise<HeldRows> {
    const rows = await HeldRows.hold(this.catalogue, select);
    copy.release();
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

/** `it` with a rig of the default options, on this catalogue, as the fixture `rig`. */
export function onNode(catalogue: Catalogue) {
  return test.extend("rig", async () => openNode(catalogue));
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
    closedRuns = [],
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
    publishAtOnceBytes: 0,
    times: { deadlineMs: 60_000, heartbeatTimeoutMs: 15_000 },
    idleTimeoutMs,
    verifyOnPublish,
    formatPolicy: { ...DEFAULT_FORMAT_POLICY, ...formatPolicy },
    taskTimeToLiveMs: 48 * 3_600_000,
    stagingTimeToLiveMs: 60_000,
    hashAlgo: "sha512",
    limits,
    version: "1.2.3",
    isRunOpen: async (workflowId: string, runId?: string) =>
      runId === undefined ? openRuns.includes(workflowId) : !closedRuns.includes(runId),
    lastFailuresOf: async () => [],
  };
  return new NodeRig(directory, catalogue, dependencies, settings, webSettings);
}

async function makeStagingDirectory(directory: string): Promise<string> {
  await mkdir(join(directory, "staging"));
  return pathToFileURL(join(directory, "staging")).href;
}

/**
 * The ways in which an import loses its image. Each returns the plan that its late steps still
 * have.
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

/** Runs a step as an activity. */
export async function runStep<Result>(
  step: () => Promise<Result>,
  environment = activityEnvironment(),
): Promise<Result> {
  return environment.run(step);
}

/** The environment of an activity; silent, because a passing test prints nothing. */
export function activityEnvironment(info: Partial<Info> = {}): MockActivityEnvironment {
  return new MockActivityEnvironment(info, { logger: new DefaultLogger("ERROR") });
}

/** Random bytes: no two images are alike, and no block of them is zero. */
export function someBytes(sizeBytes: number): Buffer {
  return randomBytes(sizeBytes);
}

/** The end of a copy in a process of its own. */
export type CopyOutcome = { readonly stored: StoredCopy } | { readonly code: ImportFailureCode };

/** The end of a step in a process of its own. */
export async function outcomeOf(program: ChildProgram): Promise<CopyOutcome> {
  const { stdout, stderr } = await program.result();
  if (stdout === "") throw new Error(`The program printed no outcome: ${stderr}`);
  return JSON.parse(stdout) as CopyOutcome;
}
