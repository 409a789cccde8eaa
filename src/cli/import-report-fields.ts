import { failureOfImport, type ImportReport } from "../client/import-report.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";
import { formatInstant } from "../domain/instant.ts";
import type { ImportStatus } from "../workflow/contract.ts";
import type { EndEvent } from "./import-event.ts";
import { workOf } from "./import-work.ts";
import { fields, type Field } from "./render.ts";
import { stateText } from "./work-state.ts";

/** The place where a report is shown. */
export interface ReportPage {
  /** Columns; undefined if there is no terminal: nothing is wrapped. */
  readonly width: number | undefined;
  readonly nowMs: number;
  /** Address of a run in Temporal's Web UI; undefined if no Web UI is known. */
  readonly linkOf: (imageId: string, runId: string) => string | undefined;
}

/** The newest import of an image, for people. */
export function reportFields(report: ImportReport, page: ReportPage): string {
  const { image_id: imageId, status: imageStatus, state, task, live, message } = report;
  const link = report.run_id === null ? undefined : page.linkOf(imageId, report.run_id);
  return fields(
    [
      ["image_id", imageId],
      ["status", imageStatus],
      ["import", STATES[state]],
      ["task", task === null ? (live?.task_id ?? null) : `${task.id} (${task.status})`],
      ...(message === null || message === "" ? [] : [["message", message] as const]),
      ...(report.cancelled_by === undefined
        ? []
        : [["cancelled_by", report.cancelled_by] as const]),
      ...(hasFailed(report) ? [["hint", failureOfImport(report).hint] as const] : []),
      ["run_id", report.run_id],
      ...(link === undefined ? [] : [["web_ui", link] as const]),
      ...(live === null ? [] : liveFields(live, page.nowMs)),
      ...(report.stores === null || continues(report) ? [] : [storesField(report.stores)]),
    ],
    page.width,
  );
}

/** True if the import has not ended as far as is known. */
export function continues({ state }: ImportReport): boolean {
  return state === "waiting" || state === "running" || state === "unknown";
}

/** True if the import has ended without a success. */
export function hasFailed({ state }: ImportReport): boolean {
  return state === "failed" || state === "refused" || state === "abandoned";
}

/** The end of an import for programs; `left` if it continues. */
export function endOf(report: ImportReport): EndEvent["event"] {
  if (continues(report)) return "left";
  if (!hasFailed(report)) return "succeeded";
  return report.failure?.code === "ImportCancelled" ? "cancelled" : "failed";
}

const STATES: Readonly<Record<ImportReport["state"], string>> = {
  waiting: "waiting for a worker to accept it",
  running: "running",
  succeeded: "succeeded",
  failed: "failed",
  refused: "refused",
  abandoned: "ended without an undo",
  unknown: "not ended according to its last record; Temporal does not answer",
};

/** The stores from which the image can be read now, regardless of its last import. */
function storesField(stores: readonly string[]): Field {
  return ["stores", stores.join(", ") || null];
}

function liveFields(live: ImportStatus, nowMs: number): Field[] {
  return [
    ["phase", live.pause === "running" ? live.phase : `${live.phase}, ${live.pause}`],
    ...timeFields(live, nowMs),
    ["size", live.size === null ? null : formatBytes(live.size)],
    ...(live.detected_format === null ? [] : [["format", live.detected_format] as const]),
    ...workOf(live).map(({ label, state }): Field => [label, stateText(state, nowMs)]),
    ...Object.entries(live.checks).flatMap(([check, result]): Field[] =>
      result === "pass" ? [] : [["tolerated", `${check}: ${result}`]],
    ),
  ];
}

function timeFields({ phases }: ImportStatus, nowMs: number): Field[] {
  const [first, last] = [phases[0], phases.at(-1)];
  if (first === undefined || last === undefined) return [];
  const endedAtMs = last.ended_at === null ? nowMs : Date.parse(last.ended_at);
  return [
    ["started", formatInstant(new Date(first.started_at), new Date(nowMs))],
    ["duration", formatDuration(endedAtMs - Date.parse(first.started_at))],
  ];
}
