import type { Command } from "commander";
import { ImportError } from "../../domain/import-failure.ts";
import { inSession, type Session } from "../session.ts";

/** `worker`: runs until a signal ends it. */
export function addWorkerCommand(program: Command): void {
  program
    .command("worker")
    .description("run a worker: workflows, catalogue steps, and the bytes of this host's volume")
    .action(inSession(work));
}

async function work(session: Session): Promise<void> {
  const { requiredConfig: config, requiredDatabaseUrl: databaseUrl } = session;
  const { temporal } = session.location;
  const [{ installLogging }, { runWorker }] = await Promise.all([
    import("../../worker/logging.ts"),
    import("../../worker/run-worker.ts"),
  ]);
  const logger = installLogging();
  const onReady = (): void => {
    logger.info("The worker is ready");
    // Whoever started us with a channel wants to know.
    process.send?.({ ready: true });
  };
  try {
    await runWorker({ config, databaseUrl, temporal, logger, onReady });
  } catch (error) {
    // The SDK keeps its class for itself.
    if (!(error instanceof Error && error.name === "TransportError")) throw error;
    const { address = "localhost:7233" } = temporal.connection;
    throw new ImportError(
      "TemporalUnavailable",
      `The Temporal server at ${address} does not answer: ${error.message}`,
      { cause: error },
    );
  }
}
