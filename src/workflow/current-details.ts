import { formatBytes } from "../domain/byte-size.ts";
import { cutTo, markdownText } from "../domain/markdown-text.ts";
import type { ImportStatus } from "./contract.ts";

/** The values in the row of a store that are not in the status. */
export interface StoreRow {
  /** The time at which its state began, as ISO 8601. */
  readonly since: string;
  /** The attempt that made the copy or failed permanently. Undefined while it is unknown. */
  readonly attempt?: number | undefined;
  readonly reason?: string | undefined;
}

/** The parts of the current details. */
export interface Shown {
  readonly status: ImportStatus;
  readonly name: string | undefined;
  /** The time at which the phase or the pause began, as ISO 8601. */
  readonly since: string;
  readonly stores: Readonly<Record<string, StoreRow>>;
  /** Sentences about signals that had arguments. */
  readonly notes: readonly string[];
}

const MOST_OF_A_REASON = 300;

/** The Markdown that the Web UI shows as the current details of a run. */
export function currentDetails({ status, name, since, stores, notes }: Shown): string {
  const { phase, pause, checks, message } = status;
  const tolerated = Object.entries(checks).filter(([, result]) => result !== "pass");
  return [
    `### ${pause === "running" ? phase : `${phase}, ${pause}`}`,
    `${aboutImage(status, name)}, since ${timeOf(since)}`,
    ...tableOf(status, stores),
    ...tolerated.map(([check, reason]) => `- tolerated: ${check}: ${reasonOf(reason)}`),
    ...notes.map((note) => `- ${reasonOf(note)}`),
    ...(message === null ? [] : [`**${reasonOf(message)}**`]),
  ].join("\n\n");
}

function aboutImage(
  { image_id, size, detected_format }: ImportStatus,
  name: string | undefined,
): string {
  return [
    `Image ${name === undefined ? "" : `**${markdownText(name)}** `}\`${image_id}\``,
    ...(size === null ? [] : [size < 1024 ? `${String(size)} bytes` : bytesOf(size)]),
    ...(detected_format === null ? [] : [detected_format]),
  ].join(", ");
}

function bytesOf(size: number): string {
  return `${formatBytes(size)} (${String(size)} bytes)`;
}

function tableOf(status: ImportStatus, rows: Shown["stores"]): string[] {
  const states = Object.entries(status.stores);
  if (states.length === 0) return [];
  const lines = states.map(([store, { state, method }]) => {
    const { since = "", attempt, reason = "" } = rows[store] ?? {};
    const bytes = state === "stored" && status.size !== null ? String(status.size) : "";
    const how = method === undefined ? state : `${state} (${method})`;
    const cells = [markdownText(store), how, bytes, String(attempt ?? ""), timeOf(since)];
    return rowOf([...cells, reasonOf(reason)]);
  });
  const head = [rowOf(["store", "state", "bytes", "attempt", "since", "reason"]), RULE];
  const table = [...head, ...lines].join("\n");
  // A run knows of a running copy only what is in its history.
  const isCopying = states.some(([, { state }]) => state === "copying");
  return [
    table,
    ...(isCopying ? ["Bytes, attempts and failures of running copies: Pending Activities."] : []),
  ];
}

const RULE = "|---|---|---|---|---|---|";
// The Web UI draws tables without space between their columns.
const SPACE = "\u00a0\u00a0";

function rowOf(cells: readonly string[]): string {
  return `| ${cells.map((cell) => `${cell}${SPACE}`).join(" | ")} |`;
}

function reasonOf(text: string): string {
  return markdownText(cutTo(MOST_OF_A_REASON, text));
}

/** `2026-11-30T05:38:30.123Z` as `2026-11-30 05:38:30 UTC`. */
function timeOf(instant: string): string {
  return instant.replace("T", " ").replace(/\.\d+Z$/, " UTC");
}
