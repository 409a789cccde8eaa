import type { Client } from "@temporalio/client";
import type { NativeConnection, Worker } from "@temporalio/worker";
import type { Dependencies } from "../activities/dependencies.ts";
import { Database } from "../db/connect.ts";
import { takesWrites } from "../db/migration-status.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ListenAddress } from "../domain/listen-address.ts";
import type { CheckDocument } from "../health/health-document.ts";
import { Health, type LifeStage } from "../health/health.ts";
import { HealthServer } from "../health/health-server.ts";
import { temporalFailure } from "../temporal/temporal-failure.ts";

// Less than a check may take, so that the report has the reason of the server, and not the limit.
const PATIENCE_MS = 1_800;

/** The servers and the volume that a worker cannot work without. */
export interface WorkerNeeds {
  readonly databaseUrl: string;
  readonly connection: NativeConnection;
  readonly client: Client;
  readonly staging: Dependencies["staging"];
}

/** The health of this worker and the server that reports it. */
export class WorkerHealth implements AsyncDisposable {
  readonly #health: Health;
  readonly #server: HealthServer;
  #database: Database | undefined;

  private constructor(health: Health, server: HealthServer) {
    this.#health = health;
    this.#server = server;
  }

  /**
   * Opens the server, which reports from now on that the worker is starting.
   *
   * @throws ImportError `BadConfiguration` when it cannot listen
   */
  static async open(address: ListenAddress): Promise<WorkerHealth> {
    const health = new Health("");
    return new WorkerHealth(health, await HealthServer.open(health, address));
  }

  /** URL of `/livez` and `/readyz`, without a path. */
  get url(): string {
    return this.#server.url;
  }

  /** The results of the checks, by name. */
  get checks(): Readonly<Record<string, CheckDocument>> {
    return this.#health.readiness.checks;
  }

  /** Sets the name of this worker in Temporal. */
  nameIt(identity: string): void {
    this.#health.nameIt(identity);
  }

  /** Checks the worker's needs from now on. */
  watch({ databaseUrl, connection, client, staging }: WorkerNeeds): void {
    // A connection of its own: the others may all wait for a lock.
    const database = new Database({
      url: databaseUrl,
      maxConnections: 1,
      statementTimeoutMs: PATIENCE_MS,
    });
    this.#database = database;
    this.#health.watch("postgres", { work: () => requireWritable(database) });
    this.#health.watch("temporal", { work: () => requireNamespace(connection, client) });
    this.#health.watch("staging", {
      work: async () => {
        if (staging instanceof ImportError) throw staging;
        await staging.requireUsable();
      },
    });
  }

  /** Reports from now on that the worker runs, for as long as these parts of it do. */
  follow(workers: readonly Worker[]): void {
    this.#health.follow(() => stageOf(workers));
  }

  /** Ends the server and the checks. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#health.stop();
    await this.#database?.close();
    await this.#server[Symbol.asyncDispose]();
  }
}

function stageOf(workers: readonly Worker[]): LifeStage {
  const states = workers.map((worker) => worker.getState());
  if (states.includes("FAILED")) return "failed";
  return states.every((state) => state === "RUNNING") ? "running" : "stopping";
}

async function requireWritable(database: Database): Promise<void> {
  if (await takesWrites(database)) return;
  throw new ImportError("DatabaseUnavailable", "It is read-only, as a standby is");
}

async function requireNamespace(
  connection: NativeConnection,
  { options: { namespace } }: Client,
): Promise<void> {
  try {
    await connection.withDeadline(Date.now() + PATIENCE_MS, () =>
      connection.workflowService.describeNamespace({ namespace }),
    );
  } catch (error) {
    throw temporalFailure(error);
  }
}
