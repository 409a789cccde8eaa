import type { ImportStatus, StoreProgress } from "../../src/workflow/contract.ts";
import { MIB } from "./mib.ts";

/** The time at which the states of {@link importIn} are looked at. */
export const NOW_MS = new Date(2026, 10, 29, 5, 40, 0).getTime();

/** ISO 8601 of a time before (or, negative, after) {@link NOW_MS}. */
export function secondsAgo(seconds: number): string {
  return new Date(NOW_MS - seconds * 1000).toISOString();
}

/** An image of 1.1 GiB that is being copied into these stores. */
export function importIn(
  stores: Readonly<Record<string, StoreProgress>>,
  more: Partial<ImportStatus> = {},
): ImportStatus {
  return {
    image_id: "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b",
    task_id: "0b1c2d3e-8a34-4b7e-9a51-0f6f3f1d2c3b",
    method: "glance-direct",
    phase: "storing",
    pause: "running",
    size: 1128 * MIB,
    stores,
    phases: [
      { phase: "accepting", started_at: secondsAgo(45), ended_at: secondsAgo(44.94) },
      { phase: "verifying", started_at: secondsAgo(44.94), ended_at: secondsAgo(44.8) },
      { phase: "storing", started_at: secondsAgo(44.8), ended_at: null },
    ],
    detected_format: "raw",
    checks: {},
    message: null,
    ...more,
  };
}

const REASON =
  'Cannot reach store "archive" at https://s3.example.org:9000/images: connect ECONNREFUSED 192.0.2.17:9000; the store is asked again';

/** Each state that a copy may be in. */
export const STATES: Readonly<Record<string, ImportStatus>> = {
  copying: importIn({
    fast: {
      state: "copying",
      started_at: secondsAgo(44),
      done_bytes: 564 * MIB,
      bytes_per_second: 120 * MIB,
    },
    "a-store-with-a-long-name": {
      state: "copying",
      started_at: secondsAgo(44),
      done_bytes: 79 * MIB,
      bytes_per_second: 9 * MIB,
    },
    new: { state: "copying", started_at: secondsAgo(1) },
  }),
  "waiting for a retry": importIn({
    archive: {
      state: "copying",
      started_at: secondsAgo(44),
      done_bytes: 79 * MIB,
      attempt: 4,
      next_attempt_at: secondsAgo(-12),
      last_failure: REASON,
    },
  }),
  paused: importIn(
    { slow: { state: "copying", started_at: secondsAgo(44), done_bytes: 79 * MIB } },
    { pause: "paused", paused_at: secondsAgo(90) },
  ),
  "dropped, failed and stored": importIn({
    tape: { state: "dropped", started_at: secondsAgo(44), ended_at: secondsAgo(40) },
    archive: {
      state: "failed",
      started_at: secondsAgo(44),
      ended_at: secondsAgo(41),
      last_failure: REASON,
    },
    slow: {
      state: "stored",
      method: "copy",
      started_at: secondsAgo(44),
      ended_at: secondsAgo(3),
    },
  }),
  fetching: importIn(
    { slow: { state: "waiting" } },
    {
      phase: "fetching",
      size: null,
      done_bytes: 79 * MIB,
      total_bytes: 1128 * MIB,
      bytes_per_second: 12 * MIB,
    },
  ),
  "fetching without a total": importIn(
    {},
    { phase: "fetching", size: null, done_bytes: 79 * MIB, bytes_per_second: 12 * MIB },
  ),
};
