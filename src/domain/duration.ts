const FACTORS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * Reads a duration such as `500ms`, `15s`, `5m`, `24h` or `2d`.
 *
 * @returns milliseconds, or undefined if the text is not a duration
 */
export function parseDurationMs(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$/.exec(text);
  if (match === null) return undefined;
  const durationMs = Math.round(Number(match[1]) * (FACTORS_MS[match[2] ?? ""] ?? 1));
  return Number.isSafeInteger(durationMs) ? durationMs : undefined;
}

/**
 * Formats a duration for users: `340 ms`, `4.2 s`, `41 s`, `3 m 20 s`, `2 h 5 m` or `3 d 4 h`. The
 * text is never parsed.
 */
export function formatDuration(durationMs: number): string {
  // Rounded before the comparison: 999.6 ms must not become `1000 ms`, nor 59.96 s `60 s`.
  const wholeMs = Math.round(durationMs);
  if (wholeMs < 1000) return `${String(wholeMs)} ms`;
  const tenths = Math.round(durationMs / 100);
  if (tenths < 100) return `${(tenths / 10).toFixed(1)} s`;
  const seconds = Math.round(durationMs / 1000);
  if (seconds < 60) return `${String(seconds)} s`;
  if (seconds < 3600) return `${String(Math.floor(seconds / 60))} m ${String(seconds % 60)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 24 * 60) return `${String(Math.floor(minutes / 60))} h ${String(minutes % 60)} m`;
  const hours = Math.round(minutes / 60);
  return `${String(Math.floor(hours / 24))} d ${String(hours % 24)} h`;
}
