import type { Logger, LogLevel, LogMetadata } from "@temporalio/worker";
import type pino from "pino";
import { openLog, type LogOptions } from "../config/json-log.ts";
import type { LogLevel as Threshold } from "../domain/log-level.ts";
import { logFields } from "./log-fields.ts";

/** Opens the log of a worker for the SDK, see {@link openLog}. */
export function createLogger(options: LogOptions): Logger {
  return new PinoLogger(openLog(options));
}

/** The level of the SDK's core, which at INFO reports each poll that ends. */
export function coreLevel(level: Threshold): "DEBUG" | "INFO" | "WARN" {
  if (level === "trace") return "DEBUG";
  return level === "debug" ? "INFO" : "WARN";
}

// Messages of a normal start, stop or reconnect, which the SDK logs at too high a level.
const ROUTINE: readonly RegExp[] = [
  /^No workflows registered, not polling/,
  /^No activities registered, not polling/,
  /^No Nexus services registered, not polling/,
  /^Worker state changed/,
];

/** Returns a logger that logs the SDK's routine messages at level debug. */
export function withoutNoise(logger: Logger): Logger {
  const log = (level: LogLevel, message: string, meta?: LogMetadata): void => {
    const isRoutine = ROUTINE.some((pattern) => pattern.test(message));
    logger.log(isRoutine && level !== "TRACE" ? "DEBUG" : level, message, meta);
  };
  return {
    log,
    trace: (message, meta) => {
      log("TRACE", message, meta);
    },
    debug: (message, meta) => {
      log("DEBUG", message, meta);
    },
    info: (message, meta) => {
      log("INFO", message, meta);
    },
    warn: (message, meta) => {
      log("WARN", message, meta);
    },
    error: (message, meta) => {
      log("ERROR", message, meta);
    },
  };
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

  log(level: LogLevel, message: string, meta: LogMetadata = {}): void {
    this.#pino[LEVELS[level]](logFields(meta), message);
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
