import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";
import { remainingMs } from "../domain/pace.ts";
import { clockTime } from "./clock-time.ts";

/** An amount of bytes that are done, of a total if it is known. */
export interface Amount {
  readonly doneBytes: number;
  readonly totalBytes: number | undefined;
}

/** The state of a piece of work. */
export type WorkState =
  | (Amount & { readonly kind: "moving"; readonly bytesPerSecond: number | undefined })
  | {
      readonly kind: "retrying";
      readonly attempt: number;
      /** ISO 8601; undefined while that attempt runs. */
      readonly nextAttemptAt: string | undefined;
      readonly reason: string;
    }
  | {
      readonly kind: "paused";
      readonly amount: Amount | undefined;
      /** ISO 8601. */
      readonly since: string | undefined;
    }
  /** Work that has not begun, or reports no bytes. */
  | { readonly kind: "still"; readonly text: string }
  | {
      readonly kind: "ended";
      /** Empty if the time says everything. */
      readonly text: string;
      readonly isFailed: boolean;
      readonly tookMs: number | undefined;
      readonly reason?: string | undefined;
    };

/** A piece of work and its state. */
export interface Work {
  readonly label: string;
  readonly state: WorkState;
}

/** A state in words: `waiting for try 4 in 12 s: it is unreachable`. */
export function stateText(state: WorkState, nowMs = Date.now()): string {
  switch (state.kind) {
    case "moving":
      return [percentOf(state), amountText(state)].filter((text) => text !== "").join(", ");
    case "retrying":
      return retryText(state, nowMs);
    case "paused":
      return pauseText(state, nowMs);
    case "still":
      return state.text;
    case "ended":
      return endText(state);
  }
}

/** `512 MiB of 1 GiB, 120 MiB/s, 4.3 s left`. */
export function amountText(state: WorkState & { readonly kind: "moving" }): string {
  const { doneBytes, totalBytes, bytesPerSecond } = state;
  const done = formatBytes(doneBytes);
  const leftMs = remainingMs(doneBytes, totalBytes, bytesPerSecond);
  return [
    totalBytes === undefined ? done : `${done} of ${formatBytes(totalBytes)}`,
    ...(bytesPerSecond === undefined || bytesPerSecond < 1
      ? []
      : [`${formatBytes(bytesPerSecond)}/s`]),
    ...(leftMs === undefined ? [] : [`${formatDuration(leftMs)} left`]),
  ].join(", ");
}

/**
 * `50 %`; empty if the total is unknown. It is rounded down: `100 %` is shown for all bytes only.
 */
export function percentOf({ doneBytes, totalBytes }: Amount): string {
  if (totalBytes === undefined) return "";
  return `${String(Math.floor(100 * shareOf(doneBytes, totalBytes)))} %`;
}

/** The share of the bytes that are done, from 0 to 1. Work without bytes is done: 1. */
export function shareOf(doneBytes: number, totalBytes: number): number {
  return totalBytes === 0 ? 1 : Math.min(1, doneBytes / totalBytes);
}

function retryText(state: WorkState & { readonly kind: "retrying" }, nowMs: number): string {
  const { attempt, nextAttemptAt, reason } = state;
  if (nextAttemptAt === undefined) return `try ${String(attempt)} runs, after: ${reason}`;
  const seconds = Math.max(0, Math.ceil((Date.parse(nextAttemptAt) - nowMs) / 1000));
  const until = formatDuration(seconds * 1000).replace("0 ms", "0 s");
  return `waiting for try ${String(attempt)} in ${until}: ${reason}`;
}

function pauseText(state: WorkState & { readonly kind: "paused" }, nowMs: number): string {
  const { amount, since } = state;
  const percent = amount === undefined ? "" : percentOf(amount);
  return [
    "paused",
    ...(amount === undefined ? [] : [`at ${formatBytes(amount.doneBytes)}`]),
    ...(percent === "" ? [] : [`(${percent})`]),
    ...(since === undefined ? [] : [`since ${clockTime(since, nowMs)}`]),
  ].join(" ");
}

function endText(state: WorkState & { readonly kind: "ended" }): string {
  const { text, isFailed, tookMs, reason } = state;
  const took = tookMs === undefined ? "" : formatDuration(tookMs);
  const preposition = text === "" ? "" : ` ${isFailed ? "after" : "in"} `;
  const line = took === "" ? text : `${text}${preposition}${took}`;
  return reason === undefined ? line : `${line}: ${reason}`;
}
