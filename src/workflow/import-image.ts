import { uuid4, workflowInfo } from "@temporalio/workflow";
import type { ImportPlan, NothingToCopy } from "../activities/claim-import.ts";
import type { StoredCopy } from "../activities/store-image.ts";
import type { ImportRequest } from "../domain/import-request.ts";
import type { Undo } from "./compensations.ts";
import type { ImportOutcome, RefusedImport } from "./contract.ts";
import { findCauses, withinDeadline } from "./deadline.ts";
import { removalOfCopy } from "./give-up-store.ts";
import { outcomeOf } from "./import-outcome.ts";
import { ImportRun } from "./import-run.ts";
import {
  checkDigest,
  digestStaged,
  fetchImage,
  prepareImage,
  type PreparedImage,
} from "./prepare-image.ts";
import { publishImage } from "./publish-image.ts";
import { sideBySide } from "./side-by-side.ts";
import { byteSteps, control } from "./steps.ts";
import { undoImport } from "./undo-import.ts";

/**
 * Imports one image: its bytes are verified, copied into every requested store, and published in
 * the catalogue in one atomic step. If the import fails, nothing of it is left behind.
 *
 * Each step registers its undo before it begins. The undos run in reverse order if a later step
 * fails, if the import is cancelled, or if its deadline passes.
 */
export async function importImage(input: ImportRequest): Promise<ImportOutcome | RefusedImport> {
  // Any Temporal client can send any input; the claim rejects what is not a valid request.
  const request = isObject(input) ? input : NO_REQUEST;
  const run = new ImportRun(request);
  try {
    const claimed = await claimImport(input, request, run);
    if ("already_in" in claimed) return await nothingToCopy(claimed, run);
    run.accept(claimed);
    return await withinDeadline(
      claimed.times.deadlineMs,
      () => importClaimed(claimed, run),
      () => findCauses(run),
    );
  } catch (error) {
    return await undoImport(error, run);
  }
}

const NO_REQUEST: ImportRequest = { image_id: "" };

function isObject(input: unknown): boolean {
  return typeof input === "object" && input !== null;
}

/** All steps that follow the claim. */
async function importClaimed(claimed: ImportPlan, run: ImportRun): Promise<ImportOutcome> {
  const plan = await fetchImage(claimed, run);
  const image = plan.known ?? (await prepareImage(plan, run));
  run.tracker.verified(image);

  run.enter("storing");
  const [digests, , ...copies] = await sideBySide([
    async () => image.digests ?? digestStaged(plan, image, run),
    () => checkDigest(plan, image, run),
    ...plan.stores.map((store) => () => copyToStore(plan, image, store, run)),
  ]);
  const stored = copies.filter((copy) => copy !== undefined);

  const unstaged = await publishImage(plan, { ...image, digests }, stored, run);
  run.enter("done");
  await run.handlersFinished();
  const stores = stored.map(({ store }) => store);
  return outcomeOf(plan, { ...image, digests }, { stores, unstaged });
}

/** Accepts the import and takes the claim; or finds that every requested store has the image. */
function claimImport(
  input: ImportRequest,
  request: ImportRequest,
  run: ImportRun,
): Promise<ImportPlan | NothingToCopy> {
  const { workflowId, runId } = workflowInfo();
  return run.step(
    { name: "claim", summary: "accept: claim the image", undo: releaseOfClaim(request, run) },
    (options) =>
      control.claimImport.executeWithOptions(options, [
        input,
        { workflowId, runId, taskId: uuid4() },
      ]),
  );
}

function releaseOfClaim({ image_id }: ImportRequest, run: ImportRun): Undo {
  return {
    name: "claim",
    summary: "undo: release the claim, image back to its earlier status",
    run: (options, reason, leftovers) => {
      run.acceptance.end();
      const { task, failedStores } = reason;
      const left = leftovers.map(({ undo, reason: why }) => `${undo} (${why})`).join(", ");
      return control.releaseImport.executeWithOptions(options, [
        {
          image_id,
          workflow_id: workflowInfo().workflowId,
          run_id: run.claimedBy,
          ...task,
          message: left === "" ? task.message : `${task.message}; left behind: ${left}`,
          failed_stores: failedStores,
        },
      ]);
    },
  };
}

/** The import succeeds without a task: every requested store has the image. */
async function nothingToCopy(found: NothingToCopy, run: ImportRun): Promise<ImportOutcome> {
  const { image_id } = found;
  run.acceptance.accept({ image_id, task_id: null });
  run.tracker.verified(found);
  run.enter("done");
  await run.handlersFinished();
  return outcomeOf({ image_id, task_id: null }, found, { stores: [], unstaged: true });
}

/** Copies the image into one store; undefined if the import continues without that store. */
function copyToStore(
  plan: ImportPlan,
  { size, product }: PreparedImage,
  store: string,
  run: ImportRun,
): Promise<StoredCopy | undefined> {
  const { image_id, epoch, task_id, uri, known } = plan;
  const undo = removalOfCopy(plan, store);
  // Without `from` the bytes come from staging.
  const source = known === undefined ? {} : { from: "stores" as const };
  return run.copy(
    { name: "store", store, summary: `store: copy to ${store}`, pause: "stops it", undo },
    (options) =>
      byteSteps(plan).storeImage.executeWithOptions(options, [
        { image_id, epoch, task_id, uri, product, store, size, ...source },
      ]),
  );
}
