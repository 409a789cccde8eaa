/**
 * The time for what a test waits for, in milliseconds. Vitest waits one second by default, which is
 * not enough on a busy machine; this is less than the time that a test has.
 */
export const PATIENCE = { timeout: 40_000, interval: 20 };
