import { pathToFileURL } from "node:url";
import type { Digests } from "../domain/digests.ts";
import type { DiskFormat } from "../domain/disk-format.ts";
import { parseChecksum, requireExpected, type Expected } from "../domain/given-checksum.ts";
import { ImportError } from "../domain/import-failure.ts";
import {
  isUuid,
  parseImportRequest,
  type ImportMethod,
  type ImportRequest,
  type TakenOver,
} from "../domain/import-request.ts";
import { dropAdopted } from "../db/adoption-records.ts";
import { releaseClaim, requireCopyable, takeClaim, type Claimant } from "../db/claim-records.ts";
import type { Queries } from "../db/connect.ts";
import { listLiveLocations, type ImageRow, type LocationRow } from "../db/image-records.ts";
import { findUpload, type StagedRow } from "../db/staged-facts.ts";
import { isSealed } from "../sources/sealing-keys.ts";
import { needsSealing, parseWebUrl } from "../sources/web-url.ts";
import type { StagingArea } from "../staging/staging-area.ts";
import { pathOfStagingUri } from "../staging/staging-uri.ts";
import type { TaskFailure } from "../domain/task-failure.ts";
import { TASK_TYPE } from "../domain/task-status.ts";
import { currentAttempt } from "./attempts.ts";
import type { Dependencies, ImportTimes } from "./dependencies.ts";

/**
 * The plan of an accepted import. Everything that the run needs later is frozen in it.
 */
export interface ImportPlan {
  readonly image_id: string;
  readonly task_id: string;
  /** The run that took the claim. */
  readonly run_id: string;
  /** The fence of this import. */
  readonly epoch: number;
  readonly owner: string | null;
  /** Absent in histories of 0.1.0, and of an image without a name. */
  readonly image_name?: string;
  /** Null if the verdict detects it in the bytes. */
  readonly disk_format: DiskFormat | null;
  readonly container_format: string;
  readonly stores: readonly string[];
  readonly all_stores_must_succeed: boolean;
  /** URI of the upload. Null: the upload is at the default place. */
  readonly uri: string | null;
  /** Absent in histories of 0.1.0, which had only `glance-direct`. */
  readonly method?: ImportMethod;
  /** `web-download`: the URL of the bytes, sealed if it holds a secret. */
  readonly source_uri?: string;
  /** Formats and properties that the image takes over from an image of another service. */
  readonly takes_over?: TakenOver;
  /** `web-download`: the reason for which there is nothing to download. */
  readonly source_failure?: string;
  /** `copy-image`: the facts of the image to copy. */
  readonly known?: KnownImage;
  readonly expected?: Expected;
  readonly roles?: readonly string[];
  /**
   * Names of the transforms, in their order. They are frozen here: a change of the configuration
   * does not affect running imports.
   */
  readonly transforms?: readonly string[];
  /** The multihash that steps compute. */
  readonly hash_algo?: string;
  /** The staging volume whose worker moves the bytes. */
  readonly node: string;
  readonly times: ImportTimes;
  /** An image of at most this many bytes is published in one step. Absent in histories of 0.1.0. */
  readonly at_once_bytes?: number;
  /** Names of the search attributes that the server has: others would stop the run. Default: all */
  readonly search_attributes?: readonly string[];
}

/** Facts of the bytes of an active image. */
export interface KnownImage {
  readonly size: number;
  readonly virtual_size: number | null;
  readonly digests: Digests;
}

/** The result if every requested store has the image: there is no task, and nothing to do. */
export interface NothingToCopy extends KnownImage {
  readonly image_id: string;
  /** The stores that have it. */
  readonly already_in: readonly string[];
}

/** The acceptance of an import, and its undo. */
export function claimImportActivities(dependencies: Dependencies) {
  const {
    database,
    stores,
    staging,
    times,
    hashAlgo,
    limits,
    transforms,
    taskTimeToLiveMs,
    isRunOpen,
  } = dependencies;
  return {
    /**
     * Accepts an import in one transaction: validates the request against the image, takes the
     * claim with a new epoch, image → `importing`, inserts the task as `pending`. A repeated call
     * of the same run returns the same plan.
     *
     * @throws ImportError `BadRequest`, `UnknownStore`, `BadTaskConfiguration`, `ImageNotFound`,
     *   `ImageConflict`, `ImageBusy`, `StagingBusy`, `ImageTooLarge`, `QuotaExceeded`,
     *   `ImportLost`
     */
    async claimImport(input: unknown, claimant: Claimant): Promise<ImportPlan | NothingToCopy> {
      const request = parseImportRequest(input);
      requireWorkflowId(request, claimant);
      const wanted = request.all_stores
        ? stores.writableNames
        : (request.stores ?? [stores.defaultName]);
      for (const name of wanted) stores.requireWritable(name);
      const chosen = transforms.choose(request.transforms);
      const { node: here } = requireStagingFor(request, claimant, staging);
      requireWebUri(request);
      const searchable = await dependencies.searchAttributes?.();
      const claiming = {
        ...claimant,
        // After a reset the step of the new run may still name the earlier one as claimant.
        isOpen: () => isRunOpen(claimant.workflowId, currentAttempt().run),
      };
      return database.transaction(async (db) => {
        const copying =
          request.method === "copy-image" && (await planCopies(db, request, wanted, here));
        if (copying && copying.stores.length === 0) return nothingToCopy(request, copying);
        const targets = copying ? copying.stores : wanted;
        const claim = await takeClaim(db, limits, request, targets, claiming);
        const staged = await findUpload(db, request.image_id);
        // An earlier import adopted a file, and failed. Its owner may have corrected it since: this
        // import adopts the named file as it is now. A late call leaves what its run has adopted.
        if (claim.isNew && claim.earlierStatus === "queued" && request.uri !== undefined) {
          await dropAdopted(db, request.image_id);
        }
        const node = copying ? copying.node : staged?.node;
        return {
          image_id: request.image_id,
          task_id: claim.taskId,
          run_id: claimant.runId,
          epoch: claim.epoch,
          owner: claim.owner,
          ...(claim.name === null ? {} : { image_name: claim.name }),
          disk_format: claim.diskFormat,
          container_format: claim.containerFormat,
          stores: targets,
          all_stores_must_succeed: request.all_stores_must_succeed ?? true,
          node: node ?? here,
          times,
          at_once_bytes: dependencies.publishAtOnceBytes,
          ...(searchable === undefined ? {} : { search_attributes: searchable }),
          hash_algo: hashAlgo,
          ...sourceOf(request, staged),
          ...(copying ? { known: copying.known } : {}),
          ...expectedOf(request),
          ...(request.roles === undefined ? {} : { roles: request.roles }),
          // Glance's rule: the image was transformed when it was imported.
          ...(copying || chosen.length === 0 ? {} : { transforms: chosen }),
        };
      });
    },

    /**
     * Undoes {@link claimImport}, in one transaction: image back to its earlier status, task →
     * `failure` with the reason, claim released. Does nothing when this run holds no claim.
     *
     * @throws ImportError retried: `AttemptOvertaken` when a reset of this run continues with the
     *   claim
     */
    async releaseImport(order: ReleaseOrder): Promise<void> {
      // A request without an image never claimed one.
      if (!isUuid(order.image_id)) return;
      const attempt = currentAttempt();
      await database.transaction((db) =>
        releaseClaim(
          db,
          { imageId: order.image_id, workflowId: order.workflow_id, runId: order.run_id },
          order,
          order.failed_stores,
          taskTimeToLiveMs,
          attempt,
        ),
      );
    },
  };
}

/** The claim to release, and the end of its task. */
export interface ReleaseOrder extends TaskFailure {
  readonly image_id: string;
  readonly workflow_id: string;
  readonly run_id: string;
  /** Stores that failed, for `os_glance_failed_import`. */
  readonly failed_stores: readonly string[];
}

function sourceOf(request: ImportRequest, staged: StagedRow | undefined) {
  const { method = "glance-direct", uri } = request;
  if (method === "glance-direct") return { method, uri: uri ?? uriOfAdopted(staged) };
  const { takes_over, source_failure } = request;
  return {
    method,
    uri: null,
    ...(uri === undefined ? {} : { source_uri: uri }),
    ...(takes_over === undefined ? {} : { takes_over }),
    ...(source_failure === undefined ? {} : { source_failure }),
  };
}

function expectedOf({ checksum: text, size }: ImportRequest): { expected?: Expected } {
  const checksum = text === undefined ? undefined : parseChecksum(text);
  if (checksum === undefined && size === undefined) return {};
  return { expected: { checksum, size } };
}

interface PlannedCopies {
  readonly stores: readonly string[];
  readonly has: readonly string[];
  readonly known: KnownImage;
  /** A staging volume whose worker reaches a copy. */
  readonly node: string;
}

/**
 * Glance's rules of `copy-image`: all stores that lack the image, or those named, of which none may
 * have it.
 */
async function planCopies(
  db: Queries,
  request: ImportRequest,
  wanted: readonly string[],
  here: string,
): Promise<PlannedCopies> {
  const image = await requireCopyable(db, request.image_id);
  const locations = await listLiveLocations(db, image.id);
  const has = locations.map(({ store }) => store);
  const present = wanted.filter((store) => has.includes(store));
  if (request.all_stores !== true && present.length > 0) {
    throw new ImportError(
      "BadRequest",
      `Image is already present at store '${present.join("', '")}' (image "${image.id}")`,
      {
        hint: "Name stores that lack it, or take `all_stores`, which leaves out those that have it.",
      },
    );
  }
  const known = knownOf(image, locations);
  requireKnown(request, known);
  return {
    stores: wanted.filter((store) => !has.includes(store)),
    has,
    known,
    // This worker is alive. The worker of the oldest copy may not exist any more.
    node: (locations.find(({ node }) => node === here) ?? locations[0])?.node ?? "",
  };
}

function knownOf(image: ImageRow, [location]: readonly LocationRow[]): KnownImage {
  const { sizeBytes, checksum, osHashAlgo, osHashValue } = image;
  if (location === undefined || sizeBytes === null || checksum === null) throw noCopy(image);
  if (osHashAlgo === null || osHashValue === null) throw noCopy(image);
  return {
    size: sizeBytes,
    virtual_size: image.virtualSizeBytes,
    digests: { checksum, osHashAlgo, osHashValue, crc32: location.crc32, sizeBytes },
  };
}

function noCopy({ id }: ImageRow): ImportError {
  return new ImportError("CopyNotFound", `Image "${id}" not found in any configured store`);
}

/**
 * The digests of an active image are known. A checksum of another algorithm cannot be compared
 * without reading all bytes.
 */
function requireKnown(request: ImportRequest, { size, digests }: KnownImage): void {
  if (requireExpected(expectedOf(request).expected ?? {}, { size, digests })) return;
  throw new ImportError(
    "BadRequest",
    `Cannot compare checksum "${request.checksum ?? ""}" with image "${request.image_id}": its digests are md5 and ${digests.osHashAlgo}`,
  );
}

function nothingToCopy(request: ImportRequest, { has, known }: PlannedCopies): NothingToCopy {
  return { image_id: request.image_id, already_in: has, ...known };
}

/**
 * The URI of an adopted file, which is where its owner put it. Null for an upload that this service
 * wrote: that is at the default place.
 */
function uriOfAdopted(staged: StagedRow | undefined): string | null {
  return staged === undefined || staged.ours ? null : pathToFileURL(staged.path).href;
}

/**
 * This id prevents a second run of the same image; a run under another id would bypass it.
 */
function requireWorkflowId(request: ImportRequest, { workflowId }: Claimant): void {
  const expected = `image-import/${request.image_id}`;
  if (workflowId === expected) return;
  throw new ImportError(
    "BadRequest",
    `An import of image "${request.image_id}" must run under the workflow id "${expected}", not "${workflowId}"`,
  );
}

function requireStagingFor(
  request: ImportRequest,
  claimant: Claimant,
  staging: StagingArea | ImportError,
): StagingArea {
  try {
    const { method = "glance-direct", uri } = request;
    if (method === "glance-direct" && uri !== undefined) pathOfStagingUri(uri);
  } catch (error) {
    throw badTaskConfiguration(claimant, error);
  }
  if (!(staging instanceof ImportError)) return staging;
  throw badTaskConfiguration(claimant, staging);
}

/**
 * Rejects a URL that may contain a secret and is not sealed. The history of this run keeps it, but
 * the next start can seal it.
 */
function requireWebUri({ method, uri }: ImportRequest): void {
  if (method !== "web-download" || uri === undefined || isSealed(uri)) return;
  parseWebUrl(uri);
  if (!needsSealing(uri)) return;
  throw new ImportError(
    "BadRequest",
    "Cannot import from this URL: its query or fragment may be a secret, and is readable in the history of this run",
    { hint: "Start the import with `image-import` or its client, which seal such URLs." },
  );
}

function badTaskConfiguration({ taskId }: Claimant, error: unknown): unknown {
  if (!(error instanceof ImportError)) return error;
  return new ImportError(
    "BadTaskConfiguration",
    `${taskId} of ${TASK_TYPE} not configured properly. ${error.message}`,
    { cause: error, hint: error.hint },
  );
}
