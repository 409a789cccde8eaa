/**
 * The levels of log lines, least important first. A worker logs its level and more important ones.
 */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

/** A level of {@link LOG_LEVELS}. */
export type LogLevel = (typeof LOG_LEVELS)[number];
