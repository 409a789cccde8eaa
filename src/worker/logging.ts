import { Runtime, type Logger, type LogLevel, type LogMetadata } from "@temporalio/worker";
import pino from "pino";

/**
 * Installs the process-wide logger of a worker: one JSON object a line on stderr, what the SDK's core says included.
 * To be called once, before anything else touches the SDK.
 */
export function installLogging(): Logger {
  // Written at once: a line that waits in a buffer is lost with the process that it would explain.
  const logger = new PinoLogger(pino(pino.destination({ fd: 2, sync: true })));
  Runtime.install({
    logger,
    telemetryOptions: { logging: { forward: {}, filter: { core: "WARN", other: "WARN" } } },
  });
  return logger;
}

const LEVELS = {
  TRACE: "trace",
  DEBUG: "debug",
  INFO: "info",
  WARN: "warn",
  ERROR: "error",
} as const;

class PinoLogger implements Logger {
  readonly #pino: pino.Logger;

  constructor(pinoLogger: pino.Logger) {
    this.#pino = pinoLogger;
  }

  log(level: LogLevel, message: string, meta?: LogMetadata): void {
    this.#pino[LEVELS[level]](meta ?? {}, message);
  }

  trace(message: string, meta?: LogMetadata): void {
    this.log("TRACE", message, meta);
  }

  debug(message: string, meta?: LogMetadata): void {
    this.log("DEBUG", message, meta);
  }

  info(message: string, meta?: LogMetadata): void {
    this.log("INFO", message, meta);
  }

  warn(message: string, meta?: LogMetadata): void {
    this.log("WARN", message, meta);
  }

  error(message: string, meta?: LogMetadata): void {
    this.log("ERROR", message, meta);
  }
}
