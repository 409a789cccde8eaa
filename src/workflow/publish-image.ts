import { log, patched } from "@temporalio/workflow";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { Published } from "../activities/publish-image.ts";
import type { StoredCopy } from "../activities/store-image.ts";
import type { Digests } from "../domain/digests.ts";
import { describeFailure } from "./failure-report.ts";
import type { ImportRun } from "./import-run.ts";
import type { PreparedImage } from "./prepare-image.ts";
import { cleanUpSteps, confirmSteps, control, publishSteps } from "./steps.ts";

/** An image whose bytes are known. */
type KnownImage = PreparedImage & { readonly digests: Digests };

/**
 * Publishes an image whose copies are in their stores, and deletes its staged data.
 *
 * @returns false if staged data is left, which the sweeper deletes
 */
export async function publishImage(
  plan: ImportPlan,
  image: KnownImage,
  copies: readonly StoredCopy[],
  run: ImportRun,
): Promise<boolean> {
  if (isPublishedAtOnce(plan, image)) {
    const { isPublished, isUnstaged } = await publishAtOnce(plan, image, copies, run);
    if (!isPublished) await publishSaved(plan, image, run);
    run.publish();
    return isUnstaged || (await unstageImage(plan, run));
  }
  run.enter("saving");
  await saveImage(plan, image, copies, run);
  await publishSaved(plan, image, run);
  run.publish();
  return plan.known !== undefined || (await unstageImage(plan, run));
}

/**
 * True if the image is small enough to be published in one step. Further copies of an active image
 * are always published in separate steps: such an image has no status for saved copies.
 */
function isPublishedAtOnce({ known, at_once_bytes: most }: ImportPlan, { size }: KnownImage) {
  if (known !== undefined || most === undefined || size > most) return false;
  // An earlier version may have run steps of an import whose plan is of this version.
  return patched("publish-at-once");
}

/**
 * Publishes a small image in one step. If that step fails or is cancelled, an attempt may have
 * published the image, or may still do so. `settlePublication` finds out on any worker, and
 * prevents a later publication.
 */
async function publishAtOnce(
  plan: ImportPlan,
  image: KnownImage,
  copies: readonly StoredCopy[],
  run: ImportRun,
): Promise<Published> {
  const { image_id, epoch, task_id } = plan;
  const { digests, virtual_size, changes, preparation } = image;
  const saved = { image_id, epoch, task_id, digests, virtual_size, copies };
  const order = { ...saved, ...changes, preparation };
  const summary = "publish: save, activate, delete the staged data";
  run.enter("activating");
  return run.step({ name: "publish", summary, pause: "waits before it" }, async (options) => {
    try {
      return await publishSteps(plan).publishImage.executeWithOptions(options, [order]);
    } catch (error) {
      if (!(await wasPublished(plan, image, copies, run))) throw error;
      return { isPublished: true, isUnstaged: false };
    }
  });
}

/**
 * True if the import has published its image. If it returns false, no later attempt publishes it.
 */
async function wasPublished(
  { image_id, epoch }: ImportPlan,
  { digests, virtual_size }: KnownImage,
  copies: readonly StoredCopy[],
  run: ImportRun,
): Promise<boolean> {
  const summary = "settle: is the image published?";
  const order = { image_id, epoch, digests, virtual_size, copies };
  try {
    const { isPublished } = await run.step(
      { name: "settle", summary, isShielded: true },
      (options) => control.settlePublication.executeWithOptions(options, [order]),
    );
    return isPublished;
  } catch (error) {
    log.info("The image is not published", { ...describeFailure(error) });
    return false;
  }
}

/** Checks the copies of a saved image a last time, and activates the image. */
async function publishSaved(plan: ImportPlan, image: KnownImage, run: ImportRun): Promise<void> {
  run.enter("activating");
  await confirmCopies(plan, image.digests, run);
  await activateImage(plan, image, run);
}

function saveImage(
  { image_id, epoch }: ImportPlan,
  { digests, virtual_size }: KnownImage,
  copies: readonly StoredCopy[],
  run: ImportRun,
): Promise<void> {
  const summary = "save: record size, digests, locations";
  return run.step({ name: "save", summary, pause: "waits before it" }, (options) =>
    control.saveImage.executeWithOptions(options, [
      { image_id, epoch, digests, virtual_size, copies },
    ]),
  );
}

/**
 * Checks the copies a last time, after the last pause: a pause may last for days, and nothing waits
 * between this check and the activation.
 */
function confirmCopies(plan: ImportPlan, digests: Digests, run: ImportRun): Promise<void> {
  const { image_id, epoch } = plan;
  const summary = "confirm: are all copies unchanged since they were checked?";
  return run.step({ name: "confirm", summary, pause: "waits before it" }, (options) =>
    // The first histories of 0.1.0 have no such step.
    patched("confirm-copies")
      ? confirmSteps(plan).confirmCopies.executeWithOptions(options, [{ image_id, epoch, digests }])
      : Promise.resolve(),
  );
}

/** Publishes the image: the point of no return. A cancel has no effect from here on. */
async function activateImage(
  { image_id, epoch, task_id }: ImportPlan,
  { changes, preparation }: PreparedImage,
  run: ImportRun,
): Promise<void> {
  const summary = "activate: publish the image";
  await run.step({ name: "activate", summary, isShielded: true }, (options) =>
    control.activateImage.executeWithOptions(options, [
      { image_id, epoch, task_id, ...changes, preparation },
    ]),
  );
}

async function unstageImage(plan: ImportPlan, run: ImportRun): Promise<boolean> {
  run.enter("unstaging");
  return await deleteStaged(plan, run);
}

/** Deletes the staged data. A failure is logged and does not undo the published image. */
async function deleteStaged(plan: ImportPlan, run: ImportRun): Promise<boolean> {
  const { image_id } = plan;
  const summary = "unstage: delete the staged data";
  try {
    await run.step({ name: "unstage", summary, isShielded: true }, (options) =>
      cleanUpSteps(plan).unstageImage.executeWithOptions(options, [{ image_id }]),
    );
    return true;
  } catch (error) {
    log.warn("Cannot delete the staged data; the sweeper deletes it", {
      ...describeFailure(error),
    });
    return false;
  }
}
