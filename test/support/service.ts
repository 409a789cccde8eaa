import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Client, Connection, type WorkflowHandle } from "@temporalio/client";
import { inject, onTestFinished, vi } from "vitest";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import { readConfig } from "../../src/config/config.ts";
import { Database } from "../../src/db/connect.ts";
import {
  CONTROL_QUEUE,
  importWorkflowId,
  RECONCILER_ID,
  type Reconciled,
} from "../../src/workflow/contract.ts";
import { CommandLine } from "./command-line.ts";
import { copyHoldsEnv } from "./copy-holds-env.ts";
import { CopyHolds } from "./copy-holds.ts";
import { createEmptyTestDatabase } from "./database.ts";
import { imageTraces, type ImageTraces } from "./image-traces.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";
import { WorkerProcess } from "./worker-process.ts";

/** Settings of a {@link Service}. */
export interface ServiceOptions {
  /**
   * `stores` of the configuration file. Stores without a type are directories of the service's own.
   */
  readonly stores: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** More of the configuration file. */
  readonly more?: Readonly<Record<string, unknown>>;
  /** Host and port of a Temporal server. Default: the shared one, with a new namespace */
  readonly temporalAddress?: string;
}

/** The time for a condition to become true; generous, because machines are busy. */
const PATIENCE = { timeout: 90_000, interval: 50 };

/**
 * A service whose workers are processes that the test starts: on real servers, with a namespace, a
 * database, a staging area and stores of its own. It goes with the running test.
 */
export class Service {
  readonly dataDir: string;
  readonly databaseUrl: string;
  /** Variables of a worker or a command. */
  readonly env: Readonly<Record<string, string>>;
  readonly temporal: Client;
  readonly client: ImageImportClient;
  readonly database: Database;
  readonly holds: CopyHolds;

  readonly #options: ServiceOptions;

  private constructor(
    options: ServiceOptions,
    parts: Pick<Service, "dataDir" | "env" | "temporal" | "client" | "database">,
  ) {
    this.#options = options;
    this.dataDir = parts.dataDir;
    this.databaseUrl = parts.env["DATABASE_URL"] ?? "";
    this.env = parts.env;
    this.temporal = parts.temporal;
    this.client = parts.client;
    this.database = parts.database;
    this.holds = new CopyHolds(parts.dataDir);
  }

  /** Opens one without any worker. */
  static async open(options: ServiceOptions): Promise<Service> {
    const dataDir = makeTemporaryDirectory();
    const testDatabase = await createEmptyTestDatabase();
    onTestFinished(() => testDatabase.drop());
    const address = options.temporalAddress ?? inject("temporalAddress");
    const connection = await Connection.connect({ address });
    onTestFinished(() => connection.close());
    const isShared = options.temporalAddress === undefined;
    const namespace = isShared ? await createNamespace(connection) : "default";
    const env = {
      DATABASE_URL: testDatabase.url,
      TEMPORAL_ADDRESS: address,
      TEMPORAL_NAMESPACE: namespace,
      IMAGE_IMPORT_CONFIG: writeServiceConfig(dataDir, options, "staging"),
    };
    await new CommandLine({ env }).answer("migrate");
    const database = new Database({ url: testDatabase.url, statementTimeoutMs: 120_000 });
    onTestFinished(() => database.close());
    const temporal = new Client({ connection, namespace });
    const client = await connectClient(env);
    return new Service(options, { dataDir, env, temporal, client, database });
  }

  /** The same service as another node sees it, which has a staging area of its own. */
  async node(name: string): Promise<Service> {
    const config = writeServiceConfig(this.dataDir, this.#options, `staging-${name}`);
    const env = { ...this.env, IMAGE_IMPORT_CONFIG: config };
    const client = await connectClient(env);
    const { dataDir, temporal, database } = this;
    return new Service(this.#options, { dataDir, env, temporal, client, database });
  }

  /** Starts a worker. */
  async startWorker(env: NodeJS.ProcessEnv = {}): Promise<WorkerProcess> {
    return WorkerProcess.start({ ...copyHoldsEnv(this.dataDir), ...this.env, ...env });
  }

  /** Path of a file store. */
  store(name: string): string {
    return join(this.dataDir, "stores", name);
  }

  /** A new image of random bytes in format `raw`, which are staged. */
  async stagedImage(sizeBytes: number): Promise<string> {
    const { id } = await this.client.images.create({ diskFormat: "raw", containerFormat: "bare" });
    const path = join(makeTemporaryDirectory(), "disk.raw");
    writeFileSync(path, randomBytes(sizeBytes));
    await this.client.files.stage(id, path);
    return id;
  }

  /** The newest import of an image, as Temporal sees it. */
  run(imageId: string): WorkflowHandle {
    return this.temporal.workflow.getHandle(importWorkflowId(imageId));
  }

  /** Waits until a worker runs this step of an import. */
  async awaitStep(imageId: string, step: string): Promise<void> {
    await vi.waitFor(async () => {
      const { raw } = await this.run(imageId).describe();
      const names = raw.pendingActivities?.map((each) => each.activityType?.name) ?? [];
      if (!names.includes(step)) throw new Error(`No worker runs ${step}: ${names.join(", ")}`);
    }, PATIENCE);
  }

  /**
   * The last attempt of each completed step of this name, and the failure before it:
   * `2: heartbeat`, or `1` if none failed.
   */
  async attemptsOf(imageId: string, step: string): Promise<string[]> {
    const { events } = await this.run(imageId).fetchHistory();
    const all = events ?? [];
    const scheduled = all
      .filter((event) => event.activityTaskScheduledEventAttributes?.activityType?.name === step)
      .map(({ eventId }) => String(eventId));
    return all.flatMap(({ activityTaskStartedEventAttributes: started }) => {
      if (started == null || !scheduled.includes(String(started.scheduledEventId))) return [];
      const timeout = started.lastFailure?.message;
      return [[String(started.attempt), timeout].filter((part) => part != null).join(": ")];
    });
  }

  /** Runs the reconciler once, as its Schedule does. */
  async reconcile(): Promise<Reconciled> {
    const reconciled: unknown = await this.temporal.workflow.execute("reconcileImports", {
      workflowId: RECONCILER_ID,
      taskQueue: CONTROL_QUEUE,
    });
    return reconciled as Reconciled;
  }

  /** The traces of an image. */
  async traces(imageId: string): Promise<ImageTraces> {
    return imageTraces(this.databaseUrl, this.dataDir, imageId);
  }
}

/**
 * Writes a configuration file and makes the directories that it names; returns the path of the
 * file.
 */
function writeServiceConfig(
  dataDir: string,
  { stores, more = {} }: ServiceOptions,
  staging: string,
): string {
  mkdirSync(join(dataDir, staging));
  const named = Object.entries(stores).map(([name, settings]) => {
    mkdirSync(join(dataDir, "stores", name), { recursive: true });
    return [name, { type: "file", path: `stores/${name}`, zero_copy: false, ...settings }];
  });
  const path = join(dataDir, `image-import-${staging}.yaml`);
  const settings = {
    stores: Object.fromEntries(named) as object,
    node_staging_uri: pathToFileURL(join(dataDir, staging)).href,
    ...more,
  };
  // JSON is YAML too.
  writeFileSync(path, JSON.stringify(settings));
  return path;
}

async function connectClient(env: Service["env"]): Promise<ImageImportClient> {
  const client = await ImageImportClient.connect({
    temporal: {
      address: env["TEMPORAL_ADDRESS"] ?? "",
      namespace: env["TEMPORAL_NAMESPACE"] ?? "",
    },
    databaseUrl: env["DATABASE_URL"] ?? "",
    config: readConfig(env["IMAGE_IMPORT_CONFIG"] ?? ""),
  });
  onTestFinished(() => client.close());
  return client;
}

async function createNamespace(connection: Connection): Promise<string> {
  const namespace = `service-${randomBytes(4).toString("hex")}`;
  await connection.workflowService.registerNamespace({
    namespace,
    // protobuf.js takes a number where its types want its own 64-bit integer.
    workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
  });
  return namespace;
}
