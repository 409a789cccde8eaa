import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { ImportReport } from "../../client/import-report.ts";
import { formatBytes } from "../../domain/byte-size.ts";
import { failureOfImport } from "../../client/import-report.ts";
import { ImportError, UnlistedFailure } from "../../domain/import-failure.ts";
import type { StoreProgress } from "../../workflow/contract.ts";
import { imageArgument, imagesArgument } from "../arguments.ts";
import { onEachImage } from "../each-image.ts";
import { followImport } from "../follow-import.ts";
import { Interruption } from "../interruption.ts";
import { fields, type Field } from "../render.ts";
import { inSession, type Session } from "../session.ts";
import { ShownImport } from "../shown-import.ts";

/** `status` and `watch`: the newest import of an image. */
export function addStatusCommands(program: Command): void {
  program
    .command("status")
    .addArgument(imagesArgument())
    .description("show the newest import of an image, with live detail while it runs")
    .action(inSession(status));
  program
    .command("watch")
    .addArgument(imageArgument())
    .description("follow the newest import of an image until it has ended")
    .action(inSession(watch));
}

async function status(session: Session, references: readonly string[]): Promise<void> {
  const client = await session.client();
  await onEachImage(session, client, references, {
    work: (imageId) => client.imports.report(imageId),
    text: reportFields,
  });
}

/**
 * Ends as the import ends: with exit code 1 when it failed, was refused or was left without an
 * undo.
 */
async function watch(session: Session, reference: string): Promise<void> {
  const client = await session.client();
  const imageId = await client.images.resolve(reference);
  using interruption = new Interruption();
  const { signal } = interruption;
  const observer = new ShownImport(session.progress);
  let report = await client.imports.report(imageId);
  while (goesOn(report)) {
    const run = { image_id: imageId, run_id: report.run_id ?? "" };
    // The end is read from the record, which outlives the run.
    const followed = await followImport(client, run, { observer, signal }).catch(
      (error: unknown) => {
        if (error instanceof ImportError || error instanceof UnlistedFailure) return undefined;
        throw error;
      },
    );
    report = await client.imports.report(imageId);
    if (followed?.kind === "left") break;
    if (goesOn(report)) await sleep(BETWEEN_RUNS_MS);
  }
  if (hasFailed(report)) throw failureOfImport(report);
  session.answer(report, () => reportFields(report));
}

// Another run continues, or Temporal is unreachable; neither has news at once.
const BETWEEN_RUNS_MS = 500;

function goesOn({ state }: ImportReport): boolean {
  return state === "waiting" || state === "running" || state === "unknown";
}

function hasFailed({ state }: ImportReport): boolean {
  return state === "failed" || state === "refused" || state === "abandoned";
}

function reportFields(report: ImportReport): string {
  const { image_id: imageId, status: imageStatus, state, task, live, message } = report;
  return fields([
    ["image_id", imageId],
    ["status", imageStatus],
    ["import", STATES[state]],
    ["task", task === null ? (live?.task_id ?? null) : `${task.id} (${task.status})`],
    ...(message === null || message === "" ? [] : [["message", message] as const]),
    ...(hasFailed(report) ? [["hint", failureOfImport(report).hint] as const] : []),
    ["run_id", report.run_id],
    ...(live === null ? [] : liveFields(live)),
    ...(report.stores === null || goesOn(report) ? [] : [storesField(report.stores)]),
  ]);
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

function liveFields(live: NonNullable<ImportReport["live"]>): Field[] {
  return [
    ["phase", live.pause === "running" ? live.phase : `${live.phase}, ${live.pause}`],
    ...(live.last_failure === undefined ? [] : [["retrying", retryLine(live)] as const]),
    ["size", live.size === null ? null : formatBytes(live.size)],
    ...(live.detected_format === null ? [] : [["format", live.detected_format] as const]),
    ...Object.entries(live.stores).map(([store, progress]): Field => [
      `store ${store}`,
      storeLine(progress, live.size),
    ]),
    ...Object.entries(live.checks).flatMap(([check, result]): Field[] =>
      result === "pass" ? [] : [["tolerated", `${check}: ${result}`]],
    ),
  ];
}

function storeLine(progress: StoreProgress, sizeBytes: number | null): string {
  const { state, method, done_bytes: doneBytes, last_failure: lastFailure } = progress;
  const total = sizeBytes === null ? "" : ` of ${formatBytes(sizeBytes)}`;
  return [
    state,
    ...(method === undefined ? [] : [`(${method})`]),
    ...(doneBytes === undefined ? [] : [`${formatBytes(doneBytes)}${total}`]),
    ...(lastFailure === undefined ? [] : [retryLine(progress)]),
  ].join(" ");
}

/** A copy that failed permanently has no attempt number. */
function retryLine({
  attempt,
  last_failure: lastFailure,
}: Pick<StoreProgress, "attempt" | "last_failure">): string {
  const after = `after: ${String(lastFailure)}`;
  return attempt === undefined ? after : `attempt ${String(attempt)} ${after}`;
}
