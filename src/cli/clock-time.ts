import { formatInstant } from "../domain/instant.ts";

/**
 * A time for people, in the zone of this machine: `05:38:30` today, `2026-11-29 05:38:30` on
 * another day.
 *
 * @param time - ISO 8601
 */
export function clockTime(time: string, nowMs: number): string {
  const then = new Date(time);
  const now = new Date(nowMs);
  const [day = "", clock = ""] = formatInstant(then, now).split(" ");
  return then.toDateString() === now.toDateString() ? clock : `${day} ${clock}`;
}
