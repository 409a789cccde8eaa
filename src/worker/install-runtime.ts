import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { Runtime, type Logger } from "@temporalio/worker";
import type { LogOptions } from "../config/json-log.ts";
import { METRICS, type MetricFacts } from "../domain/metrics.ts";
import type { ListenAddress } from "../domain/listen-address.ts";
import { cannotListen, urlOf } from "../health/health-server.ts";
import { coreLevel, createLogger, withoutNoise } from "./logging.ts";

// Another program may take the free port that was found before the exporter listens there.
const ATTEMPTS = 5;

/** Settings of the runtime of a worker. */
export interface RuntimeOptions {
  readonly log: LogOptions;
  /** The address of the metrics. */
  readonly metrics: ListenAddress;
}

/** The runtime of a worker. */
export interface WorkerRuntime {
  readonly logger: Logger;
  /** URL of the metrics. */
  readonly metricsUrl: string;
}

/**
 * Installs the process-wide runtime of a worker: its logger, which the SDK and its core also use,
 * and the exporter of the metrics. Must be called once, before any other use of the SDK.
 *
 * @throws ImportError `BadConfiguration` when the exporter cannot listen
 */
export async function installRuntime({ log, metrics }: RuntimeOptions): Promise<WorkerRuntime> {
  const logger = createLogger(log);
  // The exporter takes an IP address, and no host name.
  const { address: ip, family } = await lookup(metrics.host).catch((error: unknown) => {
    throw cannotListen("metrics", metrics, error);
  });
  for (let attempt = 1; ; attempt += 1) {
    const port = metrics.port === 0 ? await freePortOf(ip, metrics) : metrics.port;
    try {
      const bindAddress = family === 6 ? `[${ip}]:${String(port)}` : `${ip}:${String(port)}`;
      install(log, logger, bindAddress);
    } catch (error) {
      if (metrics.port === 0 && attempt < ATTEMPTS) continue;
      throw cannotListen("metrics", metrics, error);
    }
    // Node prints warnings as text, which no reader of JSON lines expects.
    process.removeAllListeners("warning");
    process.on("warning", (warning) => {
      logger.warn("Node.js warns", { error: warning });
    });
    return { logger, metricsUrl: `${urlOf(metrics.host, port)}/metrics` };
  }
}

function install(log: LogOptions, logger: Logger, bindAddress: string): void {
  Runtime.install({
    logger: withoutNoise(logger),
    telemetryOptions: {
      logging: { forward: {}, filter: { core: coreLevel(log.level), other: "WARN" } },
      metrics: {
        prometheus: {
          bindAddress,
          countersTotalSuffix: true,
          unitSuffix: true,
          useSecondsForDurations: true,
          histogramBucketOverrides: bucketsByName(),
        },
      },
    },
  });
}

function bucketsByName(): Record<string, number[]> {
  const metrics: readonly (readonly [string, MetricFacts])[] = Object.entries(METRICS);
  return Object.fromEntries(
    metrics.flatMap(([name, { buckets }]) => (buckets === undefined ? [] : [[name, [...buckets]]])),
  );
}

async function freePortOf(ip: string, metrics: ListenAddress): Promise<number> {
  const server = createServer();
  try {
    server.listen({ host: ip, port: 0 });
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  } catch (error) {
    throw cannotListen("metrics", metrics, error);
  } finally {
    server.close();
  }
}
