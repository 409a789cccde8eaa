import type { Service } from "../client/service.ts";
import { UnansweredStart } from "../client/unanswered-start.ts";
import type { AcceptedCopy, ImportOutcome } from "../workflow/contract.ts";
import { followImport } from "./follow-import.ts";
import type { End } from "./import-event.ts";
import type { ReportPage } from "./import-report-fields.ts";
import { exactSize, fields, type Field } from "./render.ts";
import type { Answering } from "./session.ts";
import { showRun } from "./shown-run.ts";
import { withWordOfWaiting } from "./waiting-for-a-worker.ts";

/** A start whose end a command may wait for. */
export interface Start {
  readonly client: Service;
  /** Sends the request, and returns once a worker has accepted it. */
  readonly start: () => Promise<AcceptedCopy>;
  /** True to follow the import to its end. */
  readonly follows: boolean;
  /** Aborted when the user wants to leave; the import continues. */
  readonly signal: AbortSignal;
  /** Status of the image while the import runs. Default: `importing`. */
  readonly status?: "importing" | "active";
}

/**
 * Starts an import and answers with its acceptance, or follows it and answers with its end. If no
 * worker has accepted it in time, or if the user leaves, a note names the commands that follow and
 * cancel it.
 */
export async function startAndFollow(session: Answering, request: Start): Promise<void> {
  const { client, signal, status = "importing" } = request;
  const accepted = await accept(session, request);
  if (accepted === undefined) return;
  const { image_id: id, run_id: runId, task_id: taskId, workflow_id: workflowId } = accepted;
  session.about({ image_id: id, run_id: runId, task_id: taskId ?? undefined });
  await showRun(session, accepted);
  const { width } = await session.page();
  if (!request.follows) {
    answerAccepted(session, accepted, { status, end: "accepted", width });
    return;
  }
  session.progress.event({ event: "accepted", workflow_id: workflowId });
  const observer = session.progress.follow();
  const followed = await followImport(client, accepted, { observer, signal });
  if (followed.kind === "ended") {
    answerOutcome(session, followed.outcome, width);
    return;
  }
  session.progress.note(
    `Left; the import continues. \`image-import watch ${id}\` follows it, \`image-import cancel ${id}\` cancels it.`,
  );
  answerAccepted(session, accepted, { status, end: "left", width });
}

/**
 * Starts an import, and shows a note while no worker answers. If none has answered in time, the
 * command answers with the run, and ends with exit code 5.
 *
 * @returns undefined for an import that is started and not accepted yet
 */
async function accept(session: Answering, { start }: Start): Promise<AcceptedCopy | undefined> {
  try {
    return await withWordOfWaiting(session, start);
  } catch (error) {
    if (!(error instanceof UnansweredStart) || error.run === undefined) throw error;
    const { run, message, hint } = error;
    session.about({ image_id: run.image_id, run_id: run.run_id });
    session.progress.note(`${message}. ${hint}`);
    const text = (): string =>
      fields([
        ["image_id", run.image_id],
        ["status", "started, not accepted yet"],
        ["workflow_id", run.workflow_id],
        ["run_id", run.run_id],
      ]);
    session.answer({ ...run, task_id: null, status: "waiting" }, text, "waiting");
    return undefined;
  }
}

const NO_TASK = "none, there was nothing to do";

type Width = ReportPage["width"];

function answerAccepted(
  session: Answering,
  accepted: AcceptedCopy,
  { status, end, width }: { readonly status: string; readonly end: End; readonly width: Width },
): void {
  const text = (): string =>
    fields(
      [
        ["image_id", accepted.image_id],
        ["status", status],
        ["task_id", accepted.task_id ?? NO_TASK],
        ["workflow_id", accepted.workflow_id],
        ["run_id", accepted.run_id],
      ],
      width,
    );
  session.answer({ ...accepted, status }, text, end);
}

function answerOutcome(session: Answering, outcome: ImportOutcome, width: Width): void {
  session.answer(outcome, () =>
    fields(
      [
        ["image_id", outcome.image_id],
        ["status", outcome.status],
        ["size", exactSize(outcome.size)],
        ...formatFields(outcome),
        ["checksum", outcome.checksum],
        [outcome.os_hash_algo, outcome.os_hash_value],
        ["stores", outcome.stores.join(", ")],
        ["task_id", outcome.task_id ?? NO_TASK],
        ["run_id", outcome.run_id],
      ],
      width,
    ),
  );
}

function formatFields({
  detected_format: detected,
  staged_format: staged,
}: ImportOutcome): Field[] {
  if (detected === undefined) return [];
  return [["format", staged === undefined ? detected : `${detected}, made from ${staged}`]];
}
