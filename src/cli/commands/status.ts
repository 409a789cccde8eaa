import type { Command } from "commander";
import type { ImportReport } from "../../client/image-import-client.ts";
import { formatBytes } from "../../domain/byte-size.ts";
import { ImportError, isImportFailureCode } from "../../domain/import-failure.ts";
import type { StoreProgress } from "../../workflow/contract.ts";
import { imageIdArgument } from "../arguments.ts";
import { followImport } from "../follow-import.ts";
import { Interruption } from "../interruption.ts";
import { fields, type Field } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `status` and `watch`: the newest import of an image. */
export function addStatusCommands(program: Command): void {
  program
    .command("status")
    .addArgument(imageIdArgument())
    .description("show the newest import of an image, with live detail while it runs")
    .action(inSession(status));
  program
    .command("watch")
    .addArgument(imageIdArgument())
    .description("follow the newest import of an image until it has ended")
    .action(inSession(watch));
}

async function status(session: Session, imageId: string): Promise<void> {
  const report = await (await session.client()).importReport(imageId);
  session.answer(report, () => reportFields(report));
}

/** Ends as the import ends: with exit code 1 when it failed. */
async function watch(session: Session, imageId: string): Promise<void> {
  const client = await session.client();
  const before = await client.importReport(imageId);
  if (isRunning(before)) {
    using interruption = new Interruption();
    const run = { image_id: imageId, run_id: before.task?.run_id ?? "" };
    const { progress } = session;
    // Its failure is told from the record below, which outlives the run.
    await followImport(client, run, { progress, signal: interruption.signal }).catch(
      (error: unknown) => {
        if (!(error instanceof ImportError)) throw error;
      },
    );
  }
  const report = await client.importReport(imageId);
  const failure = failureOf(report);
  if (failure !== undefined) throw failure;
  session.answer(report, () => reportFields(report));
}

function isRunning({ task, live }: ImportReport): boolean {
  if (task !== null) return task.status === "pending" || task.status === "processing";
  return live !== null && !["done", "failed", "cancelled"].includes(live.phase);
}

/** `Error: <type>: <text>`, as the task keeps it. */
function failureOf({ task, live }: ImportReport): ImportError | undefined {
  const message = task === null ? (live?.message ?? "") : task.message;
  const isFailure = task === null ? message !== "" : task.status === "failure";
  if (!isFailure) return undefined;
  const [, type, text] = /^Error: (\w+): (.*)$/s.exec(message) ?? [];
  return new ImportError(isImportFailureCode(type) ? type : "ImportAbandoned", text ?? message);
}

function reportFields({
  image_id: imageId,
  status: imageStatus,
  task,
  live,
}: ImportReport): string {
  const message = task?.message ?? live?.message ?? "";
  return fields([
    ["image_id", imageId],
    ["status", imageStatus],
    ["task", task === null ? (live?.task_id ?? null) : `${task.id} (${task.status})`],
    ...(message === "" ? [] : [["message", message] as const]),
    ["run_id", task?.run_id],
    ...(live === null ? [] : liveFields(live)),
  ]);
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

/** Of a copy that has failed for good there is no attempt. */
function retryLine({
  attempt,
  last_failure: lastFailure,
}: Pick<StoreProgress, "attempt" | "last_failure">): string {
  const after = `after: ${String(lastFailure)}`;
  return attempt === undefined ? after : `attempt ${String(attempt)} ${after}`;
}
