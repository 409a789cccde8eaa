import { parseDurationMs } from "./duration.ts";

/**
 * False for a text that begins with a day which no calendar has, such as `2026-02-31`: JavaScript
 * reads it as a day of the next month.
 */
export function hasRealDay(text: string): boolean {
  const [, year, month, day] = /^(\d{4})-(\d\d)-(\d\d)/.exec(text) ?? [];
  if (day === undefined) return true;
  return (
    new Date(Date.UTC(Number(year), Number(month) - 1, Number(day))).getUTCDate() === Number(day)
  );
}

/**
 * Reads an instant: a date or a date with a time as in ISO 8601, in the time zone of this machine
 * if it names none; or a duration such as `7d`, which means that long ago.
 *
 * @returns undefined if the text is neither
 */
export function parseInstant(text: string, now = new Date()): Date | undefined {
  const agoMs = parseDurationMs(text);
  const isDate = /^\d{4}-\d\d-\d\d$/.test(text);
  const isTime = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$/.test(text);
  if (agoMs === undefined && !((isDate || isTime) && hasRealDay(text))) return undefined;
  // A date alone would be read as UTC.
  const instant = new Date(
    agoMs === undefined ? (isDate ? `${text}T00:00` : text) : now.getTime() - agoMs,
  );
  return Number.isNaN(instant.getTime()) ? undefined : instant;
}

const UNITS_MS = [
  ["y", 365 * 86_400_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
] as const;

/** The time since an instant in its largest unit, for users: `12 s`, `3 h`, `5 d`. */
export function formatAge(since: Date, now: Date): string {
  const ageMs = Math.max(0, now.getTime() - since.getTime());
  const [unit, factorMs] = UNITS_MS.find(([, each]) => ageMs >= each) ?? ["s", 1000];
  return `${String(Math.floor(ageMs / factorMs))} ${unit}`;
}

/** An instant for users, in the time zone of this machine: `2026-11-30 06:01:23 (3 h ago)`. */
export function formatInstant(instant: Date, now: Date): string {
  const local = new Date(instant.getTime() - instant.getTimezoneOffset() * 60_000);
  const text = local.toISOString().slice(0, 19).replace("T", " ");
  const isFuture = instant > now;
  const age = isFuture ? `in ${formatAge(now, instant)}` : `${formatAge(instant, now)} ago`;
  return `${text} (${age})`;
}
