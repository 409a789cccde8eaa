import { and, eq, isNotNull, sql } from "drizzle-orm";
import { isLater, type AttemptOrder } from "../domain/attempt-order.ts";
import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import { nextImageStatus } from "../domain/image-status.ts";
import type { DirectUpload } from "../domain/direct-upload.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ImportRequest } from "../domain/import-request.ts";
import type { Limits } from "../domain/quota.ts";
import { redactValues } from "../domain/redact.ts";
import { abandonedTask, type TaskFailure } from "../domain/task-failure.ts";
import { importLost } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import { lockImage, type ImageRow } from "./image-records.ts";
import { listLeasesOf } from "./lease-records.ts";
import { reserveImport } from "./quota-records.ts";
import { imageLocations, images, tasks } from "./schema.ts";
import { findUpload } from "./staged-facts.ts";
import { DEFAULT_TASK_TIME_TO_LIVE_MS, failTask } from "./task-records.ts";

/** The run that asks for a claim. */
export interface Claimant {
  readonly workflowId: string;
  readonly runId: string;
  readonly taskId: string;
}

/** The run whose claim step runs now. The step may be late: the run may have closed since. */
export interface ClaimingRun extends Claimant {
  /** Asks Temporal whether this run is still open. */
  readonly isOpen: () => Promise<boolean>;
}

/** The status that an image has before an import takes it, and goes back to. */
type EarlierStatus = NonNullable<ImageRow["claimEarlierStatus"]>;

/** A claim: the fence, and the facts that are frozen with it. */
export interface Claim {
  readonly taskId: string;
  readonly epoch: number;
  /** False if the run held it already. */
  readonly isNew: boolean;
  readonly earlierStatus: EarlierStatus;
  readonly owner: string | null;
  readonly name: string | null;
  /** Null: it is detected from the bytes. */
  readonly diskFormat: DiskFormat | null;
  readonly containerFormat: ContainerFormat;
}

/**
 * Accepts an import, in the caller's one transaction: checks the request against the image, takes
 * the claim under a new epoch, inserts the task, and reserves room for the import. Idempotent by
 * run: the run that holds the claim gets the same claim again.
 *
 * @throws ImportError `ImageNotFound`, `ImageConflict`, `ImageBusy`, `StagingBusy`,
 *   `ImageTooLarge`, `QuotaExceeded`; `ImportLost` when this run has closed, and another
 *   run of its workflow has the claim
 */
export async function takeClaim(
  db: Queries,
  limits: Limits,
  request: ImportRequest,
  stores: readonly string[],
  claimant: ClaimingRun,
): Promise<Claim> {
  const image = await lockImage(db, request.image_id);
  requireExpectedOwner(image, request);
  const frozen = { owner: image.owner, name: image.name, ...requireFormats(image, request) };
  const { claimTaskId, claimEarlierStatus } = image;
  if (image.claimRunId === claimant.runId && claimTaskId !== null && claimEarlierStatus !== null) {
    const held = { taskId: claimTaskId, epoch: image.epoch, earlierStatus: claimEarlierStatus };
    return { ...held, isNew: false, ...frozen };
  }
  const earlierStatus = await requireImportable(db, image, request, claimant);
  const epoch = image.epoch + 1;
  await db
    .update(images)
    .set({
      // An active image stays active while more copies are made of it.
      ...(earlierStatus === "active"
        ? {}
        : { status: nextImageStatus(earlierStatus, "importing") }),
      epoch,
      claimTaskId: claimant.taskId,
      claimWorkflowId: claimant.workflowId,
      claimRunId: claimant.runId,
      claimEarlierStatus: earlierStatus,
      importingToStores: [...stores].sort(),
      failedImport: image.failedImport.filter((store) => !stores.includes(store)),
      updatedAt: sql`now()`,
    })
    .where(and(eq(images.id, image.id), eq(images.epoch, image.epoch)));
  await db.insert(tasks).values({
    id: claimant.taskId,
    owner: image.owner,
    imageId: image.id,
    requestId: request.request_id ?? null,
    userId: request.user_id ?? null,
    workflowId: claimant.workflowId,
    runId: claimant.runId,
    input: inputOf(request, stores),
  });
  await reserveImport(db, limits, image, stores.length);
  return { taskId: claimant.taskId, epoch, isNew: true, earlierStatus, ...frozen };
}

/** Refuses an image that changed hands after it was decided who may import it. */
function requireExpectedOwner({ id, owner }: ImageRow, { expected_owner }: ImportRequest): void {
  if (expected_owner === undefined || expected_owner === owner) return;
  throw new ImportError("ImageNotFound", `No image has the id "${id}"`);
}

/** The request as a task shows it: our own names, and Glance's for what came over HTTP. */
function inputOf(
  { api_request, ...request }: ImportRequest,
  stores: readonly string[],
): Record<string, unknown> {
  return {
    ...request,
    stores,
    backend: stores,
    ...(api_request === undefined ? {} : { import_req: redactValues(api_request) }),
  };
}

function requireFormats(
  image: ImageRow,
  request: ImportRequest,
): Pick<Claim, "diskFormat" | "containerFormat"> {
  const { diskFormat, containerFormat } = image;
  const { takes_over: taken } = request;
  if (taken !== undefined) {
    return { diskFormat: taken.disk_format, containerFormat: taken.container_format };
  }
  // The import fails with the failure of its source, whatever formats the image has.
  if (request.source_failure !== undefined) {
    return { diskFormat, containerFormat: containerFormat ?? "bare" };
  }
  const hint = `\`image-import image set ${image.id} --disk-format FORMAT --container-format bare\` sets them.`;
  if (containerFormat === null) throw formatMissing("container_format", hint);
  // The format of a disk inside a container cannot be read from the bytes.
  const isDetected = request.detect_format === true && containerFormat === "bare";
  if (diskFormat === null && !isDetected) throw formatMissing("disk_format", hint);
  return { diskFormat, containerFormat };
}

function formatMissing(field: string, hint: string): ImportError {
  return new ImportError("ImageConflict", `'${field}' needs to be set before import`, { hint });
}

/**
 * Refuses an image that may not be imported, by Glance's rules in their order and words.
 *
 * @returns the status that the image goes back to if the import is undone
 */
async function requireImportable(
  db: Queries,
  image: ImageRow,
  request: ImportRequest,
  claimant: ClaimingRun,
): Promise<EarlierStatus> {
  if (image.claimTaskId !== null) {
    if (image.claimWorkflowId !== claimant.workflowId) throw busy(image);
    // Only one run of a workflow id is open at a time. If it is ours, the run that took the claim
    // has closed without its undo (terminated, or its history was lost); its leftovers are fenced
    // off by the new epoch. If ours has closed, this step is late, and the claim may be that of a
    // healthy import. A run that is open now may close before the commit: its successor waits for
    // this row, and takes the claim over.
    //
    // A late step can also take the claim of a free image. That is not worth a question to Temporal
    // in every import: no other import loses anything, the next one takes that claim over, and the
    // reconciler releases it if none comes.
    if (!(await claimant.isOpen())) throw importLost(image.id, image.status);
    await failTask(db, image.claimTaskId, abandonedTask("its run was ended without an undo"));
    await dropPendingLocations(db, image);
  }
  const status = image.claimEarlierStatus ?? image.status;
  switch (request.method) {
    case "copy-image":
      if (status === "active") return status;
      throw notCopyable(image);
    case "web-download":
      if (status === "queued") return status;
      if (status !== "uploading") throw notImportable(status, image);
      throw conflict("Image needs to be in 'queued' state to use 'web-download' method", image);
    case "glance-direct":
    case undefined:
      break;
  }
  return requireStagedOrNamed(db, image, request, status);
}

/**
 * Locks an image of which more copies are to be made.
 *
 * @throws ImportError `ImageNotFound`, `ImageConflict`
 */
export async function requireCopyable(db: Queries, imageId: string): Promise<ImageRow> {
  const image = await lockImage(db, imageId);
  if (image.status === "active") return image;
  throw notCopyable(image);
}

function notCopyable(image: ImageRow): ImportError {
  return conflict("Only images with status active can be targeted for copying", image);
}

/** Checks the rules of `glance-direct`. */
async function requireStagedOrNamed(
  db: Queries,
  image: ImageRow,
  request: ImportRequest,
  status: ImageRow["status"],
): Promise<EarlierStatus> {
  if (status === "queued") {
    // The file that a dead run adopted is still there.
    if (request.uri !== undefined || image.claimEarlierStatus !== null) return status;
    throw conflict("Image needs to be staged before 'glance-direct' method can be used", image);
  }
  if (status !== "uploading") throw notImportable(status, image);
  await requireStaged(db, image);
  return status;
}

function notImportable(status: ImageRow["status"], image: ImageRow): ImportError {
  return conflict(`Image with status ${status} cannot be target for import`, image);
}

async function requireStaged(db: Queries, image: ImageRow): Promise<void> {
  const staged = await findUpload(db, image.id);
  if (staged?.state === "whole") return;
  throw new ImportError(
    "StagingBusy",
    `Cannot import image "${image.id}": its data is still being staged`,
  );
}

function conflict(message: string, image: ImageRow): ImportError {
  const hint =
    image.status === "queued"
      ? `\`image-import image stage ${image.id} FILE\` stages its data.`
      : `\`image-import image show ${image.id}\` shows the state of the image.`;
  return new ImportError("ImageConflict", `${message} (image "${image.id}")`, { hint });
}

function busy(image: ImageRow): ImportError {
  return new ImportError(
    "ImageBusy",
    `Image "${image.id}" has an active task: ${image.claimTaskId ?? ""} imports it`,
  );
}

/** The run of an import. */
export interface ClaimId {
  readonly imageId: string;
  readonly workflowId: string;
  readonly runId: string;
}

/**
 * Undoes {@link takeClaim}, in one transaction: the image goes back to its earlier status,
 * locations that were never live go, the task fails with the reason, the claim is free. Does
 * nothing when this run holds no claim.
 *
 * @param failedStores - added to `os_glance_failed_import`
 * @param attempt - of the step that releases the claim. Default: null, it is not compared
 * @throws ImportError `AttemptOvertaken` when a later reset of this run already writes under the
 *   claim
 */
export async function releaseClaim(
  db: Queries,
  claim: ClaimId,
  failure: TaskFailure,
  failedStores: readonly string[],
  taskTimeToLiveMs = DEFAULT_TASK_TIME_TO_LIVE_MS,
  attempt: AttemptOrder | null = null,
): Promise<void> {
  const [image] = await db
    .select()
    .from(images)
    .where(and(eq(images.id, claim.imageId), eq(images.claimRunId, claim.runId)))
    .for("update");
  if (image?.claimTaskId == null || image.claimEarlierStatus === null) return;
  if (attempt !== null) await requireNoLaterWriter(db, image, attempt);
  await failTask(db, image.claimTaskId, failure, taskTimeToLiveMs);
  await dropPendingLocations(db, image);
  const staged = await findUpload(db, image.id);
  const refused = await refusedUpload(db, image, failure);
  await db
    .update(images)
    .set({
      ...(refused === undefined ? {} : { directUpload: refused }),
      ...(isImporting(image) ? stateBefore(image, staged?.sizeBytes ?? null) : {}),
      claimTaskId: null,
      claimWorkflowId: null,
      claimRunId: null,
      claimEarlierStatus: null,
      importingToStores: [],
      failedImport: [...new Set([...image.failedImport, ...failedStores])].sort(),
      updatedAt: sql`now()`,
    })
    .where(and(eq(images.id, image.id), eq(images.claimRunId, claim.runId)));
}

// No import of these bytes would succeed.
const CONTENT_REFUSED = ["UnsafeImage", "FormatMismatch", "FormatNotAllowed"];

/**
 * The value of `direct_upload` with which a worker removes this upload, as it does after a failed
 * automatic import; undefined if the upload stays. It is removed if its content was refused and a
 * client of Glance asked for the import: such a client waits for the image to be `queued` again,
 * and can correct its format only then.
 */
async function refusedUpload(
  db: Queries,
  { claimTaskId, claimEarlierStatus }: ImageRow,
  { failure }: TaskFailure,
): Promise<DirectUpload | undefined> {
  if (claimTaskId === null || claimEarlierStatus !== "uploading") return undefined;
  if (!CONTENT_REFUSED.includes(failure?.code ?? "")) return undefined;
  const [task] = await db
    .select({ input: tasks.input, requestId: tasks.requestId })
    .from(tasks)
    .where(eq(tasks.id, claimTaskId));
  const isOfGlance = task !== undefined && "import_req" in task.input;
  return isOfGlance && task.requestId !== null ? { request_id: task.requestId } : undefined;
}

/**
 * A run and its reset share one claim: a release of the earlier run that is late would end the
 * import of the later one.
 */
async function requireNoLaterWriter(
  db: Queries,
  { id, epoch }: ImageRow,
  attempt: AttemptOrder,
): Promise<void> {
  const writers = await listLeasesOf(db, { imageId: id, epoch });
  if (!writers.some((writer) => isLater(writer.attempt, attempt))) return;
  throw new ImportError(
    "AttemptOvertaken",
    `Cannot release the claim of image "${id}": a later run of its import writes with it`,
  );
}

/** Removes the pending locations of the import that holds the image; readers never saw them. */
async function dropPendingLocations(db: Queries, image: ImageRow): Promise<void> {
  await db
    .delete(imageLocations)
    .where(
      and(
        eq(imageLocations.imageId, image.id),
        eq(imageLocations.epoch, image.epoch),
        eq(imageLocations.status, "pending"),
      ),
    );
}

function isImporting(image: ImageRow): boolean {
  return image.status === "importing" || image.status === "saving";
}

/**
 * The columns with which an image goes back to its earlier status. If its staged data is gone
 * meanwhile, it becomes `queued`.
 */
function stateBefore(image: ImageRow, stagedBytes: number | null) {
  const earlier = stagedBytes === null ? "queued" : (image.claimEarlierStatus ?? "queued");
  return {
    status: nextImageStatus(image.status, earlier),
    sizeBytes: earlier === "uploading" ? stagedBytes : null,
    virtualSizeBytes: null,
    checksum: null,
    osHashAlgo: null,
    osHashValue: null,
  };
}

/** The number of claims, and the age of the oldest in seconds; 0 if there is none. */
export async function summarizeClaims(
  db: Queries,
): Promise<{ readonly running: number; readonly oldestSeconds: number }> {
  const [row] = await db
    .select({
      running: sql`count(*)`.mapWith(Number),
      oldestSeconds: sql`coalesce(extract(epoch FROM now() - min(${tasks.createdAt})), 0)`.mapWith(
        Number,
      ),
    })
    .from(images)
    .leftJoin(tasks, eq(tasks.id, images.claimTaskId))
    .where(isNotNull(images.claimTaskId));
  return row ?? { running: 0, oldestSeconds: 0 };
}

/** Lists the claims. The reconciler asks Temporal for each if a run of its workflow is open. */
export async function listClaims(db: Queries): Promise<(ClaimId & { readonly epoch: number })[]> {
  const rows = await db.select().from(images).where(isNotNull(images.claimTaskId));
  return rows.flatMap((row) =>
    row.claimWorkflowId === null || row.claimRunId === null
      ? []
      : [
          {
            imageId: row.id,
            workflowId: row.claimWorkflowId,
            runId: row.claimRunId,
            epoch: row.epoch,
          },
        ],
  );
}
