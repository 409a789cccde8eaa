import { Connection } from "@temporalio/client";
import { directToLoopback } from "../config/proxy-environment.ts";
import { serverEnvironment } from "../config/child-environment.ts";
import { Program } from "./program.ts";

/** The namespace that the development server creates. */
export const TEMPORAL_NAMESPACE = "default";

// By default the server takes 20 tasks per second from its only history shard, so that after a
// short burst every dispatch waits 50 ms. These limits protect large clusters; here they only add
// latency.
const FASTER_DISPATCH = [
  "history.transferProcessorMaxPollRPS",
  "history.timerProcessorMaxPollRPS",
  "history.visibilityProcessorMaxPollRPS",
].flatMap((key) => ["--dynamic-config-value", `${key}=2000`]);

// A write-ahead log is twice as fast as SQLite's default journal; 2 is FULL, which keeps every
// commit through a crash.
const DURABLE_AND_FAST = [
  ["--sqlite-pragma", "journal_mode=wal"],
  ["--sqlite-pragma", "synchronous=2"],
].flat();

/** Settings of a Temporal development server. */
export interface TemporalOptions {
  /** Path of the Temporal CLI; its server must be 1.30 or newer. */
  readonly cli: string;
  /** Port of the frontend on 127.0.0.1. */
  readonly port: number;
  /** Port of the Web UI on 127.0.0.1. */
  readonly webUiPort: number;
  /** The database file. Default: none, and the data is lost when the server ends. */
  readonly databaseFile?: string;
  /** The file for the server's output. */
  readonly logFile: string;
  /** Search attributes to register at start, name to type. Default: none. */
  readonly searchAttributes?: Readonly<Record<string, string>>;
  /** Variables added to its environment. Default: none. */
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts a real Temporal server with Web UI on the loopback interface. */
export function startTemporal(options: TemporalOptions): Program {
  const { databaseFile, searchAttributes = {} } = options;
  return new Program({
    name: "temporal",
    command: [
      options.cli,
      ...["server", "start-dev", "--ip", "127.0.0.1", "--log-level", "warn"],
      ...["--port", String(options.port), "--ui-port", String(options.webUiPort)],
      ...FASTER_DISPATCH,
      ...(databaseFile === undefined ? [] : ["--db-filename", databaseFile, ...DURABLE_AND_FAST]),
      ...Object.entries(searchAttributes).flatMap(([name, type]) => [
        "--search-attribute",
        `${name}=${type}`,
      ]),
    ],
    env: { ...serverEnvironment("TEMPORAL_"), ...options.env },
    logFile: options.logFile,
    stop: { signal: "SIGTERM", withinMs: 10_000 },
  });
}

/** True if the server at `address` (host and port) serves the namespace of the stack. */
export async function isTemporalReady(address: string): Promise<boolean> {
  const connection = await Connection.connect(directToLoopback({ address, connectTimeout: 2_000 }));
  try {
    const request = { namespace: TEMPORAL_NAMESPACE };
    await connection.withDeadline(Date.now() + 2_000, async () =>
      connection.workflowService.describeNamespace(request),
    );
    return true;
  } finally {
    await connection.close();
  }
}
