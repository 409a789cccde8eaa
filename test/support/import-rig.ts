import { randomBytes, randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { activityInfo } from "@temporalio/activity";
import { Client, Connection, type WorkflowHandle } from "@temporalio/client";
import { makeTelemetryFilterString, NativeConnection, Runtime, Worker } from "@temporalio/worker";
import { eq } from "drizzle-orm";
import { inject, onTestFinished, test, vi } from "vitest";
import type { Dependencies } from "../../src/activities/dependencies.ts";
import {
  createByteActivities,
  createControlActivities,
  createCleanUpActivities,
} from "../../src/activities/index.ts";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import type { ImportReport } from "../../src/client/import-report.ts";
import { parseConfig, type Config } from "../../src/config/config.ts";
import type { Database } from "../../src/db/connect.ts";
import type { LeaseRow } from "../../src/db/lease-records.ts";
import { imageLocations, images, leases } from "../../src/db/schema.ts";
import { storeAt } from "../../src/domain/place.ts";
import { listTasks } from "../../src/db/task-records.ts";
import { buildDependencies, hasStaging } from "../../src/worker/dependencies.ts";
import { stepInterceptors } from "../../src/worker/log-attributes.ts";
import { createLogger } from "../../src/worker/logging.ts";
import { registerSearchAttributes } from "../../src/temporal/search-attributes.ts";
import {
  byteQueue,
  CONTROL_QUEUE,
  importWorkflowId,
  cleanUpQueue,
  type ImportStatus,
} from "../../src/workflow/contract.ts";
import { createTestDatabase } from "./database.ts";
import type { Fault } from "./faults.ts";
import { HeldCopies } from "./held-copies.mjs";
import { logLines, type LogLine } from "./log-lines.ts";
import { replayRuns, type StartedRun } from "./replay-runs.ts";
import { PATIENCE } from "./patience.ts";

/** The workflows as they were built before the tests began. */
export const WORKFLOW_BUNDLE = fileURLToPath(
  new URL("../../dist/workflow-bundle.js", import.meta.url),
);

/** Settings of a rig. */
export interface RigOptions {
  /** `stores` of the configuration file. Default: `fast` and `slow`, see {@link TWO_STORES}. */
  readonly stores?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** More of `import` in the configuration file. */
  readonly import?: Readonly<Record<string, unknown>>;
  /** `limits` of the configuration file. Default: nothing is limited but for the cap. */
  readonly limits?: Readonly<Record<string, unknown>>;
  /** `sources` of the configuration file. */
  readonly sources?: Readonly<Record<string, unknown>>;
  /** Sections of transforms in the configuration file, such as `convert`. */
  readonly transforms?: Readonly<Record<string, unknown>>;
  /** Makes a key that seals URLs. Default: false. */
  readonly keyFile?: boolean;
  /** `node_staging_uri` of the configuration file. Default: the rig's own staging area. */
  readonly nodeStagingUri?: string;
}

/**
 * The state of an image and its newest import: everything that an import may leave behind.
 */
export interface ImportState {
  readonly image: string;
  readonly isClaimed: boolean;
  readonly failedStores: readonly string[];
  /** Status, message and result of the newest task. */
  readonly task: readonly [string, string, { readonly image_id: string } | null] | null;
  /** Store and status of each location. */
  readonly locations: readonly string[];
  /** Store and state of each lease, of all epochs. */
  readonly leases: readonly string[];
  /** Names of the files, `@` for the image's id; without what the area keeps for itself. */
  readonly staging: readonly string[];
  readonly fast: readonly string[];
  readonly slow: readonly string[];
}

/**
 * The whole service in this process, on real servers, with an own namespace, database, staging area
 * and stores.
 */
export interface ImportRig {
  readonly client: ImageImportClient;
  readonly temporal: Client;
  readonly namespace: string;
  readonly databaseUrl: string;
  readonly database: Database;
  readonly config: Config;
  readonly directory: string;
  /**
   * The activities in the order in which they began, with the store where there is one:
   * `storeImage fast`.
   */
  readonly calls: readonly string[];
  /** Lets faults happen to the next calls of an activity, one fault each. */
  fail(call: string, ...faults: readonly Fault[]): void;
  /** The lines that the workers of this file have logged about an image. */
  logOf(imageId: string): LogLine[];
  /** Stops the workers; the rest stays. */
  stopWorkers(): Promise<void>;
  startWorkers(): Promise<void>;
  /** An image in format `raw` with these bytes staged by our own staging. */
  stagedImage(bytes: Buffer): Promise<string>;
  /**
   * An image in format `raw` with these bytes put into staging by another program: their digests
   * are unknown.
   */
  adoptedImage(bytes: Buffer): Promise<string>;
  /** The newest import of an image, as Temporal sees it. */
  run(imageId: string): WorkflowHandle;
  state(imageId: string): Promise<ImportState>;
  leases(imageId: string): Promise<LeaseRow[]>;
  /** Runs the reconciler once, as its Schedule does, and gives what it answers. */
  reconcile(): Promise<unknown>;
  /**
   * Holds the copies into a store in the middle of their bytes, until the test releases them. The
   * image must have more than 2 MiB.
   */
  holdCopies(store: string): HeldCopies;
  /** Waits until the status of an import shows bytes of the copy into a store. */
  copying(imageId: string, store: string): Promise<void>;
  /** Waits until a copy is made. */
  copied(imageId: string, store: string): Promise<void>;
  /** Waits until the pause of an import is in this state. */
  paused(imageId: string, state?: ImportStatus["pause"]): Promise<void>;
  /** Waits until Temporal has accepted that the newest import of an image is to be cancelled. */
  cancelRequested(imageId: string): Promise<void>;
}

/** Both copy their bytes. A test that acts in the middle of a copy into `slow` holds it there. */
const TWO_STORES = {
  fast: { type: "file", path: "fast", zero_copy: false },
  slow: { type: "file", path: "slow", zero_copy: false },
};

// Once, before anything else touches the SDK: a passing test prints nothing.
const written: string[] = [];
Runtime.install({
  logger: createLogger({ level: "info", secrets: [], write: (line) => written.push(line) }),
  telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: "ERROR" }) } },
});

/**
 * Builds the service for one test. When the test has finished, every run that it started is
 * replayed on today's code.
 */
export async function createRig(options: RigOptions = {}): Promise<ImportRig> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), "image-import-rig-")));
  for (const name of ["staging", "fast", "slow"]) await mkdir(join(directory, name));
  const config = configOf(options, directory);
  const address = inject("temporalAddress");
  const connection = await Connection.connect({ address });
  const namespace = await createNamespace(connection);
  const native = await NativeConnection.connect({ address });
  const temporal = new Client({ connection, namespace });
  const testDatabase = await createTestDatabase();
  const { url: databaseUrl } = testDatabase;
  const dependencies = await buildDependencies(config, databaseUrl, temporal);
  const client = await ImageImportClient.connect({
    temporal: { address, namespace },
    databaseUrl,
    config,
  });
  const workers = new RigWorkers(native, namespace, dependencies);
  await workers.start();
  onTestFinished(async () => {
    try {
      await workers.stop();
      logLines(written.join(""), [new URL(databaseUrl).password]);
      await replayRuns(temporal, WORKFLOW_BUNDLE, workers.runs);
    } finally {
      await client.close();
      await native.close();
      await connection.close();
      await dependencies.database.close();
      await testDatabase.drop();
      await rm(directory, { recursive: true, force: true });
    }
  }, 60_000);
  const { database } = dependencies;
  return {
    client,
    temporal,
    namespace,
    databaseUrl,
    database,
    config,
    directory,
    calls: workers.calls,
    fail: (call, ...faults) => {
      workers.fail(call, faults);
    },
    logOf: (imageId) => logLines(written.join("")).filter((line) => line["image_id"] === imageId),
    stopWorkers: () => workers.stop(),
    startWorkers: () => workers.start(),
    stagedImage: (bytes) => stageBytes(client, directory, bytes),
    adoptedImage: (bytes) => adoptBytes(client, directory, bytes),
    run: (imageId) => temporal.workflow.getHandle(importWorkflowId(imageId)),
    leases: (imageId) => leasesOf(database, imageId),
    reconcile: async () => {
      const answer: unknown = await temporal.workflow.execute("reconcileImports", {
        workflowId: "reconcile",
        taskQueue: CONTROL_QUEUE,
      });
      return answer;
    },
    state: (imageId) => stateOf(database, directory, imageId),
    holdCopies: (store) => HeldCopies.in(dependencies.stores, store),
    copying: async (imageId, store) => {
      await vi.waitFor(async () => {
        const { stores } = await client.imports.status(imageId);
        if (!stores[store]?.done_bytes) throw new Error(`No bytes were copied to ${store}`);
      }, PATIENCE);
    },
    copied: async (imageId, store) => {
      await vi.waitFor(async () => {
        const { stores } = await client.imports.status(imageId);
        if (stores[store]?.state !== "stored") throw new Error(`No copy is made in ${store}`);
      }, PATIENCE);
    },
    paused: async (imageId, state = "paused") => {
      await vi.waitFor(async () => {
        const { pause } = await client.imports.status(imageId);
        if (pause !== state) throw new Error(`It is ${pause}, not ${state}`);
      }, PATIENCE);
    },
    cancelRequested: async (imageId) => {
      const run = temporal.workflow.getHandle(importWorkflowId(imageId));
      await vi.waitFor(async () => {
        const { events } = await run.fetchHistory();
        const request = events?.find(
          (event) => event.workflowExecutionCancelRequestedEventAttributes != null,
        );
        if (request === undefined) throw new Error(`No cancel of image ${imageId} was requested`);
      }, PATIENCE);
    },
  };
}

/** `it` with a rig of the default options as the fixture `rig`. */
export const it = test.extend("rig", async () => createRig());

function configOf(options: RigOptions, directory: string): Config {
  const settings = {
    stores: options.stores ?? TWO_STORES,
    // So that small images have all steps; a test of the publication in one step sets it.
    import: { publish_at_once: 1, ...options.import },
    limits: options.limits ?? {},
    sources: options.sources ?? {},
    ...options.transforms,
    ...(options.keyFile === true ? { secrets: { key_file: makeKey(directory) } } : {}),
    ...(options.nodeStagingUri === undefined ? {} : { node_staging_uri: options.nodeStagingUri }),
  };
  // JSON is YAML too.
  return parseConfig(JSON.stringify(settings), join(directory, "image-import.yaml"));
}

function makeKey(directory: string): string {
  const path = join(directory, "secrets.key");
  writeFileSync(path, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
  return path;
}

async function createNamespace(connection: Connection): Promise<string> {
  const namespace = `rig-${randomBytes(4).toString("hex")}`;
  await connection.workflowService.registerNamespace({
    namespace,
    // protobuf.js takes a number where its types want its own 64-bit integer.
    workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
  });
  await registerSearchAttributes(connection, namespace);
  return namespace;
}

type Activities = Record<string, (...args: never[]) => Promise<unknown>>;

class RigWorkers {
  readonly calls: string[] = [];
  readonly #native: NativeConnection;
  readonly #namespace: string;
  readonly #dependencies: Dependencies;
  readonly #faults = new Map<string, Fault[]>();
  readonly #runs = new Map<string, StartedRun>();
  #workers: Worker[] = [];
  #running: Promise<unknown> | undefined;

  constructor(native: NativeConnection, namespace: string, dependencies: Dependencies) {
    this.#native = native;
    this.#namespace = namespace;
    this.#dependencies = dependencies;
  }

  /** All runs that called an activity; each of ours does. */
  get runs(): StartedRun[] {
    return [...this.#runs.values()];
  }

  fail(call: string, faults: readonly Fault[]): void {
    this.#faults.set(call, [...(this.#faults.get(call) ?? []), ...faults]);
  }

  async start(): Promise<void> {
    const common = {
      connection: this.#native,
      namespace: this.#namespace,
      interceptors: { activity: [stepInterceptors] },
      shutdownGraceTime: 100,
      // So that a cancel arrives at once.
      maxHeartbeatThrottleInterval: 100,
    };
    this.#workers = [
      await Worker.create({
        ...common,
        workflowBundle: { codePath: WORKFLOW_BUNDLE },
        taskQueue: CONTROL_QUEUE,
        activities: this.#wrapped(createControlActivities(this.#dependencies)),
      }),
    ];
    if (hasStaging(this.#dependencies)) {
      const { node } = this.#dependencies.staging;
      this.#workers.push(
        await Worker.create({
          ...common,
          taskQueue: byteQueue(node),
          activities: this.#wrapped(createByteActivities(this.#dependencies)),
        }),
        await Worker.create({
          ...common,
          taskQueue: cleanUpQueue(node),
          activities: this.#wrapped(createCleanUpActivities(this.#dependencies)),
        }),
      );
    }
    this.#running = Promise.all(this.#workers.map((worker) => worker.run()));
    this.#running.catch(() => undefined);
  }

  async stop(): Promise<void> {
    for (const worker of this.#workers) if (worker.getState() === "RUNNING") worker.shutdown();
    await this.#running;
    this.#workers = [];
  }

  #wrapped(activities: object): Activities {
    const steps = activities as Activities;
    return Object.fromEntries(
      Object.entries(steps).map(([name, step]) => [
        name,
        async (...args: never[]) => {
          const { workflowId = "", runId = "" } = activityInfo().workflowExecution ?? {};
          this.#runs.set(runId, { workflowId, runId });
          const call = nameOf(name, args);
          this.calls.push(call);
          const fault = this.#faults.get(call)?.shift();
          return fault === undefined ? step(...args) : fault(() => step(...args));
        },
      ]),
    );
  }
}

function nameOf(activity: string, [order]: readonly unknown[]): string {
  const hasStore = typeof order === "object" && order !== null && "store" in order;
  return hasStore ? `${activity} ${String(order.store)}` : activity;
}

async function stageBytes(
  client: ImageImportClient,
  directory: string,
  bytes: Buffer,
): Promise<string> {
  const { id } = await client.images.create({ diskFormat: "raw", containerFormat: "bare" });
  const path = join(directory, `upload-${randomUUID()}`);
  await writeFile(path, bytes);
  await client.files.stage(id, path);
  await rm(path);
  return id;
}

async function adoptBytes(
  client: ImageImportClient,
  directory: string,
  bytes: Buffer,
): Promise<string> {
  const { id } = await client.images.create({ diskFormat: "raw", containerFormat: "bare" });
  await writeFile(join(directory, "staging", id), bytes);
  await client.files.adopt(id);
  return id;
}

async function stateOf(
  database: Database,
  directory: string,
  imageId: string,
): Promise<ImportState> {
  const [image] = await database.query((db) =>
    db.select().from(images).where(eq(images.id, imageId)),
  );
  if (image === undefined) throw new Error(`There is no image ${imageId}`);
  const [task] = await database.query((db) => listTasks(db, { imageId, limit: 1 }));
  const locations = await database.query((db) =>
    db.select().from(imageLocations).where(eq(imageLocations.imageId, imageId)),
  );
  return {
    image: image.status,
    isClaimed: image.claimTaskId !== null,
    failedStores: image.failedImport,
    task: task === undefined ? null : [task.status, task.message, task.result],
    locations: locations.map(({ store, status }) => `${store} ${status}`).sort(),
    leases: (await leasesOf(database, imageId))
      .flatMap(({ place, state }) => {
        const store = storeAt(place);
        return store === undefined ? [] : [`${store} ${state}`];
      })
      .sort(),
    staging: await namesIn(join(directory, "staging"), imageId),
    fast: await namesIn(join(directory, "fast"), imageId),
    slow: await namesIn(join(directory, "slow"), imageId),
  };
}

async function leasesOf(database: Database, imageId: string): Promise<LeaseRow[]> {
  return database.query((db) =>
    db.select().from(leases).where(eq(leases.imageId, imageId)).orderBy(leases.epoch, leases.place),
  );
}

async function namesIn(directory: string, imageId: string): Promise<string[]> {
  const names = await readdir(directory);
  return names
    .filter((name) => !name.startsWith("."))
    .map((name) => name.replace(imageId, "@"))
    .sort();
}

/** The report of an import, once its worker has answered: a busy one may not do so in time. */
export async function liveReport(
  { client }: Pick<ImportRig, "client">,
  imageId: string,
): Promise<ImportReport> {
  return vi.waitFor(async () => {
    const report = await client.imports.report(imageId);
    if (report.live === null) throw new Error("The worker has not answered in time");
    return report;
  }, PATIENCE);
}

/** The URI of a file in the rig's staging area. */
export function stagingUri(rig: ImportRig, name: string): string {
  return pathToFileURL(join(rig.directory, "staging", name)).href;
}
