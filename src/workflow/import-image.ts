import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  isCancellation,
  log,
  patched,
  uuid4,
  workflowInfo,
} from "@temporalio/workflow";
import type { ImportPlan, KnownImage, NothingToCopy } from "../activities/claim-import.ts";
import type { StoredCopy } from "../activities/store-image.ts";
import type { Digests } from "../domain/digests.ts";
import type { ImportRequest } from "../domain/import-request.ts";
import { Acceptance } from "./acceptance.ts";
import { Copies, type GivenUp } from "./copies.ts";
import { Compensations, type Leftover, type UndoReason } from "./compensations.ts";
import { failureDetails, type AcceptedCopy, type ImportOutcome } from "./contract.ts";
import { withinDeadline } from "./deadline.ts";
import { describeFailure, wasStopped } from "./failure-report.ts";
import { ImportTracker } from "./import-tracker.ts";
import { Pause } from "./pause.ts";
import {
  checkDigest,
  digestStaged,
  fetchImage,
  needsCheck,
  prepareImage,
  type ImportRun,
  type PreparedImage,
} from "./prepare-image.ts";
import { byteSteps, cleanUpSteps, confirmSteps, control, looks, undoSteps } from "./steps.ts";

/**
 * Imports one image: its staged bytes are judged, copied into every requested store and published
 * in the catalogue in one atomic step; or the import fails, and nothing of it is left behind.
 *
 * Read it from top to bottom: each step registers its undo before it begins. The undos run in
 * reverse when a later step fails, when the import is cancelled, and when its deadline passes.
 */
export async function importImage(input: ImportRequest): Promise<ImportOutcome> {
  // Anybody can start this with anything; the claim refuses what is no request.
  const request = isObject(input) ? input : NO_REQUEST;
  const { workflowId, runId } = workflowInfo();
  const tracker = new ImportTracker(request);
  const pause = new Pause(() => {
    tracker.show();
  });
  tracker.showPauseOf(() => pause.state);
  const acceptance = new Acceptance(request.request_id, { workflowId, runId });
  const undo = new Compensations();
  const copies = new Copies();
  const run = { tracker, pause, acceptance, undo, copies };
  let claimedBy = runId;
  tracker.enter("accepting");
  try {
    undo.register("claim", (reason, leftovers) => {
      acceptance.end();
      return control.releaseImport.executeWithOptions(
        { summary: "undo: release the claim, image back to where it was" },
        [releaseOrder(request.image_id, workflowId, claimedBy, reason, leftovers)],
      );
    });
    const plan = await tracker.step("claim", undefined, () =>
      control.claimImport.executeWithOptions({ summary: "accept: claim the image" }, [
        input,
        { workflowId, runId, taskId: uuid4() },
      ]),
    );
    if ("already_in" in plan) return await nothingToCopy(plan, acceptance, tracker);
    // After a reset this run goes on with the claim of the run before it.
    claimedBy = plan.run_id;
    acceptance.accept(plan);
    tracker.accepted(plan);
    copies.plan(plan, {
      giveUp: async (store, why, failure) => {
        tracker.gaveUp(store, why, failure);
        await giveUp(plan, store, why);
      },
      leaveOut: async (store) => {
        tracker.gaveUp(store, "dropped", undefined);
        await recordGivenUp(plan, store, "dropped");
      },
    });
    return await withinDeadline(
      plan.times.deadlineMs,
      () => importClaimed(plan, run),
      () => lookForCauses(run),
    );
  } catch (error) {
    throw await undone(error, run);
  }
}

const NO_REQUEST: ImportRequest = { image_id: "" };

function isObject(input: unknown): boolean {
  return typeof input === "object" && input !== null;
}

/** Finds out why the import has not ended in time; the cancel that follows would hide it. */
async function lookForCauses({ tracker, pause }: ImportRun): Promise<void> {
  if (!patched("causes-of-the-deadline")) return;
  if (pause.state === "paused") tracker.wasPausedTooLong();
  try {
    const failures = await looks.findLastFailures.executeWithOptions(
      { summary: "deadline: what failed last?" },
      [],
    );
    tracker.failedBeforeDeadline(failures);
  } catch (error) {
    log.warn("The causes of a passed deadline could not be found", { ...describeFailure(error) });
  }
}

/** What follows the acceptance. */
async function importClaimed(accepted: ImportPlan, run: ImportRun): Promise<ImportOutcome> {
  const { tracker, pause, acceptance, undo, copies } = run;
  const bytes = byteSteps(accepted.node, accepted.times.heartbeatTimeoutMs);
  const plan = await fetchImage(accepted, run, bytes);
  const { image_id, epoch, task_id, uri } = plan;

  const image: PreparedImage = plan.known ?? (await prepareImage(plan, run, bytes));
  tracker.verified(image);

  tracker.enter("storing");
  const { size, virtual_size, product } = image;
  const [digests, stored] = await besideEachOther(
    async (): Promise<Digests> => image.digests ?? digestStaged(plan, image, run, bytes),
    needsCheck(plan, image) ? [() => checkDigest(plan, size, run, bytes)] : [],
    plan.stores.map((store) => () => {
      return tracker.step("store", store, () =>
        copies.make(store, () => {
          undo.registerBeside("copies", `copy in store "${store}"`, () => removeCopy(plan, store));
          return tracker.copying(store, () =>
            pause.during(() =>
              bytes.storeImage.executeWithOptions({ summary: `store: copy to ${store}` }, [
                { image_id, epoch, task_id, uri, product, store, size, ...copiesFrom(plan) },
              ]),
            ),
          );
        }),
      );
    }),
  );

  tracker.enter("saving");
  await tracker.step("save", undefined, () =>
    pause.before(() =>
      control.saveImage.executeWithOptions({ summary: "save: record size, digests, locations" }, [
        { image_id, epoch, digests, virtual_size, copies: stored },
      ]),
    ),
  );

  tracker.enter("activating");
  await tracker.step("activate", undefined, () =>
    pause.before(async () => {
      // Behind the pause, which may last for days: from here to the activation nothing waits any
      // more.
      if (patched("confirm-copies")) {
        await tracker.step("confirm", undefined, () => confirmCopies(accepted, digests));
      }
      // The point of no return. A cancel that comes while it runs comes too late.
      await CancellationScope.nonCancellable(() =>
        control.activateImage.executeWithOptions({ summary: "activate: publish the image" }, [
          { image_id, epoch, task_id, ...image.changes },
        ]),
      );
    }),
  );
  pause.end();
  acceptance.end();

  const unstaged =
    plan.known !== undefined ||
    (await CancellationScope.nonCancellable(async () => {
      tracker.enter("unstaging");
      return unstage(plan);
    }));
  tracker.enter("done");
  await everybodyAnswered();
  return {
    ...runOf(image_id, task_id),
    ...outcomeOf({ size, virtual_size, digests }),
    stores: stored.map(({ store }) => store),
    unstaged,
  };
}

/** The last look at the copies, where they are. */
async function confirmCopies(plan: ImportPlan, digests: Digests): Promise<void> {
  const { node, image_id, epoch, times } = plan;
  await confirmSteps(node, times.heartbeatTimeoutMs).confirmCopies.executeWithOptions(
    { summary: "confirm: are all copies as they were checked?" },
    [{ image_id, epoch, digests }],
  );
}

/** Where the bytes of the copies come from; staging is not said. */
function copiesFrom({ known }: ImportPlan) {
  return known === undefined ? {} : { from: "stores" as const };
}

function runOf(imageId: string, taskId: string | null): AcceptedCopy {
  const { workflowId, runId } = workflowInfo();
  return { image_id: imageId, task_id: taskId, workflow_id: workflowId, run_id: runId };
}

function outcomeOf({ size, virtual_size, digests }: KnownImage) {
  return {
    status: "active" as const,
    size,
    virtual_size,
    checksum: digests.checksum,
    os_hash_algo: digests.osHashAlgo,
    os_hash_value: digests.osHashValue,
  };
}

/** Every store that was asked for has the image. That is a success, without a task. */
async function nothingToCopy(
  found: NothingToCopy,
  acceptance: Acceptance,
  tracker: ImportTracker,
): Promise<ImportOutcome> {
  acceptance.accept({ image_id: found.image_id, task_id: null });
  tracker.verified(found);
  tracker.enter("done");
  await everybodyAnswered();
  return { ...runOf(found.image_id, null), ...outcomeOf(found), stores: [], unstaged: true };
}

/**
 * Digests, checks and copies, side by side. The first that fails stops the others; only when all
 * have stopped does the failure count, because an undo must not run beside a step that still
 * writes.
 */
async function besideEachOther(
  digest: () => Promise<Digests>,
  checks: readonly (() => Promise<void>)[],
  copies: readonly (() => Promise<StoredCopy | undefined>)[],
): Promise<[Digests, StoredCopy[]]> {
  const together = new CancellationScope();
  let first: { readonly error: unknown } | undefined;
  const stopOthers = (error: unknown): never => {
    first ??= { error };
    together.cancel();
    throw error;
  };
  return together.run(async () => {
    const digesting = digest().catch(stopOthers);
    const checking = checks.map((check) => check().catch(stopOthers));
    const copying = copies.map((copy) => copy().catch(stopOthers));
    await Promise.allSettled([digesting, ...checking, ...copying]);
    if (first !== undefined) throw first.error;
    const made = await Promise.all(copying);
    return [await digesting, made.filter((copy) => copy !== undefined)];
  });
}

async function removeCopy(plan: ImportPlan, store: string): Promise<void> {
  const { node, image_id, epoch, times } = plan;
  await undoSteps(node, times.heartbeatTimeoutMs).removeCopy.executeWithOptions(
    { summary: `undo: remove the copy in ${store}` },
    [{ image_id, epoch, store }],
  );
}

/** Goes on without a store: nothing is left there, or its lease tells the reconciler what is. */
async function giveUp(plan: ImportPlan, store: string, why: GivenUp): Promise<void> {
  try {
    await removeCopy(plan, store);
  } catch (error) {
    if (wasStopped(error)) throw error;
    log.warn("What is left in a store could not be removed; the reconciler goes on", {
      store,
      ...describeFailure(error),
    });
  }
  await recordGivenUp(plan, store, why);
}

async function recordGivenUp(
  { image_id, epoch }: ImportPlan,
  store: string,
  why: GivenUp,
): Promise<void> {
  const has_failed = why === "failed";
  await control.giveUpStore.executeWithOptions({ summary: `go on without ${store}` }, [
    { image_id, epoch, store, has_failed },
  ]);
}

/** Deletes the staged data; failing at that never turns the image back. */
async function unstage({ node, image_id, times }: ImportPlan): Promise<boolean> {
  try {
    await cleanUpSteps(node, times.heartbeatTimeoutMs).unstageImage.executeWithOptions(
      { summary: "unstage: delete the staged data" },
      [{ image_id }],
    );
    return true;
  } catch (error) {
    log.warn("Staged data could not be deleted; the sweeper goes on", {
      ...describeFailure(error),
    });
    return false;
  }
}

/**
 * Whoever waits for an answer gets it before the run closes, also from a run that was cancelled.
 */
async function everybodyAnswered(): Promise<void> {
  await CancellationScope.nonCancellable(() => condition(allHandlersFinished));
}

function releaseOrder(
  imageId: string,
  workflowId: string,
  runId: string,
  reason: UndoReason,
  leftovers: readonly Leftover[],
) {
  const left = leftovers.map(({ undo, reason: why }) => `${undo} (${why})`).join(", ");
  return {
    image_id: imageId,
    workflow_id: workflowId,
    run_id: runId,
    message: left === "" ? reason.message : `${reason.message}; left behind: ${left}`,
    failed_stores: reason.failedStores,
  };
}

/** Undoes what was done and says how the run shall end. */
async function undone(
  error: unknown,
  { tracker, pause, acceptance, undo, copies }: ImportRun,
): Promise<unknown> {
  // The root scope is cancelled by people alone; a deadline cancels only the scope within it.
  const isStopped = wasStopped(error);
  const isCancelled = isStopped && CancellationScope.current().consideredCancelled;
  const isPastDeadline = isStopped && !isCancelled;
  const failure = describeFailure(error);
  const { step, store } = tracker.whereOf(error) ?? { step: "claim", store: undefined };
  const type = isPastDeadline ? "ImportDeadlineExceeded" : failure.type;
  const text = isPastDeadline ? tracker.pastDeadline : failure.text;
  const where = store === undefined ? step : `${step} "${store}"`;
  const message = `Error: ${type}: ${where}: ${text}`;

  // Past the deadline the way out is that of the deadline.
  const details = failureDetails(isPastDeadline ? undefined : failure.hint);

  acceptance.refuse({ type, text, ...details[0] });
  pause.end();
  copies.end();
  tracker.failed(message, { type, text, step, store, ...details[0] });
  tracker.enter("undoing");
  const leftovers = await undo.run({ message, failedStores: tracker.failedStores });
  tracker.enter(isCancelled && leftovers.length === 0 ? "cancelled" : "failed");
  await everybodyAnswered();

  if (leftovers.length > 0) {
    return ApplicationFailure.create({
      type: "CompensationIncomplete",
      message: `${message}; left behind: ${leftovers.map((each) => each.undo).join(", ")}`,
      nonRetryable: true,
      details: [leftovers],
      ...(error instanceof Error ? { cause: error } : {}),
    });
  }
  if (isCancelled) return isCancellation(error) ? error : new CancelledFailure(message);
  return ApplicationFailure.create({
    type,
    // A refusal is told in its own words: nothing has begun that could have failed somewhere.
    message: step === "claim" ? text : `${where}: ${text}`,
    nonRetryable: true,
    details,
    ...(error instanceof Error ? { cause: error } : {}),
  });
}
