import type { Logger } from "@temporalio/worker";
import type { Command } from "commander";
import type { Config } from "../../config/config.ts";
import { ImportError } from "../../domain/import-failure.ts";
import type { WorkerRuntime } from "../../worker/install-runtime.ts";
import type { WorkerAddresses } from "../../worker/run-worker.ts";
import { logLevelOption, portOf } from "../arguments.ts";
import { shownFailure } from "../failure.ts";
import { inSession, type Session } from "../session.ts";

interface WorkerOptions {
  readonly logLevel?: string;
  readonly healthPort?: number;
  readonly metricsPort?: number;
}

/** `worker`: runs a worker until a signal ends it. */
export function addWorkerCommand(program: Command): void {
  program
    .command("worker")
    .description("run a worker: workflows, catalogue steps, and the bytes of this host's volume")
    .addOption(logLevelOption())
    .option(
      "--health-port <port>",
      "port of /livez and /readyz, 0 for any free one; default: `health.port` of the configuration",
      portOf,
    )
    .option(
      "--metrics-port <port>",
      "port of the Prometheus metrics, 0 for any free one; default: `metrics.port` of the configuration",
      portOf,
    )
    .action(inSession(workAndLog));
}

/**
 * If a program reads stderr, the worker writes JSON lines only, also when it fails. A user at a
 * terminal gets an error as from any other command. A parent process with a channel gets the error
 * through it.
 */
async function workAndLog(session: Session, options: WorkerOptions): Promise<void> {
  const { createLogger } = await import("../../worker/logging.ts");
  const { installRuntime } = await import("../../worker/install-runtime.ts");
  const { knownSecrets } = await import("../../config/known-secrets.ts");
  const { namedLogLevel } = await import("../../config/log-settings.ts");
  let logger: Logger | undefined;
  try {
    const level = namedLogLevel(options.logLevel);
    const config = withPorts(await session.requiredConfig(), options);
    const databaseUrl = await session.requiredDatabaseUrl();
    const secrets = knownSecrets({ databaseUrl, keyFile: config.keyFile });
    const runtime = await installRuntime({
      log: { level: level ?? config.logging.level, secrets },
      metrics: config.metrics,
    });
    ({ logger } = runtime);
    endAtBugs(logger);
    await work(session, config, runtime);
  } catch (error) {
    const { exitCode, ...failure } = shownFailure(error);
    if (session.isJson || process.stderr.isTTY) throw error;
    process.send?.({ failed: failure });
    logger ??= createLogger({ level: "error", secrets: knownSecrets({}) });
    logger.error("The worker ends", { error });
    process.exitCode = exitCode;
  }
}

/** Logs an error that no code catches, and ends the worker. */
function endAtBugs(logger: Logger): void {
  process.on("uncaughtException", (error) => {
    logger.error("The worker ends: an error was not caught", { error });
    process.exit(1);
  });
}

/** The options win over the configuration. */
function withPorts(config: Config, options: WorkerOptions): Config {
  const { healthPort = config.health.port, metricsPort = config.metrics.port } = options;
  return {
    ...config,
    health: { ...config.health, port: healthPort },
    metrics: { ...config.metrics, port: metricsPort },
  };
}

async function work(
  session: Session,
  config: Config,
  { logger, metricsUrl }: WorkerRuntime,
): Promise<void> {
  const databaseUrl = await session.requiredDatabaseUrl();
  const { temporal, configPath } = await session.location();
  const { runWorker } = await import("../../worker/run-worker.ts");
  const onReady = (addresses: WorkerAddresses): void => {
    logger.info("The worker is ready", {
      config: configPath,
      stores: Object.keys(config.stores),
      namespace_name: temporal.namespace,
      ...addresses,
    });
    // A supervisor with a channel waits for this.
    process.send?.({ ready: true, ...addresses });
  };
  try {
    await runWorker({ config, configPath, databaseUrl, temporal, logger, metricsUrl, onReady });
    logger.info("The worker has stopped");
  } catch (error) {
    // The SDK does not export the class.
    if (!(error instanceof Error && error.name === "TransportError")) throw error;
    const { address = "localhost:7233" } = temporal.connection;
    throw new ImportError(
      "TemporalUnavailable",
      `The Temporal server at ${address} does not answer: ${error.message}`,
      { cause: error },
    );
  }
}
