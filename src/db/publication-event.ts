import { eq } from "drizzle-orm";
import type {
  ImageEvent,
  Preparation,
  RecordedBytes,
  RecordedRequest,
} from "../domain/image-history.ts";
import type { ImportRequest } from "../domain/import-request.ts";
import { isClaimedBy, type ImportId } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import type { ImageRow, LocationRow } from "./image-records.ts";
import { images, tasks } from "./schema.ts";
import { findStagedSource, type StagedRow } from "./staged-facts.ts";
import type { TaskRow } from "./task-records.ts";

/** The rows of an import that is about to end. Most of them are removed at its end. */
export interface EndingImport {
  /** True if it makes more copies of a published image. */
  readonly isCopying: boolean;
  /** Undefined: its record is gone. */
  readonly task: TaskRow | undefined;
  /** The upload or download. */
  readonly staged: StagedRow | undefined;
}

/** Reads the rows of an import before its activation; undefined if it has no claim. */
export async function readEndingImport(
  db: Queries,
  claim: ImportId,
): Promise<EndingImport | undefined> {
  const [[found], staged] = await Promise.all([
    db
      .select({ earlier: images.claimEarlierStatus, task: tasks })
      .from(images)
      .leftJoin(tasks, eq(tasks.id, images.claimTaskId))
      .where(isClaimedBy(claim)),
    findStagedSource(db, claim),
  ]);
  if (found === undefined) return undefined;
  return { isCopying: found.earlier === "active", task: found.task ?? undefined, staged };
}

/** Facts that only the worker which publishes an image knows. */
export interface Provenance {
  readonly taskId: string;
  /** Default: unknown, as for an import that a worker of 0.1.0 has prepared. */
  readonly preparation?: Preparation | undefined;
  /** Version of this software. Default: unknown. */
  readonly version?: string | undefined;
}

/** The event of a publication: of the image, or of more copies. */
export function publicationOf(
  { isCopying, task, staged }: EndingImport,
  image: ImageRow,
  locations: readonly LocationRow[],
  { taskId, preparation, version }: Provenance,
): ImageEvent {
  const stores = locations.map(({ store, url }) => ({ store, url })).sort(byStore);
  const request = { ...requestOf(taskId, task, staged), version: version ?? null, stores };
  if (isCopying) return { event: "copied", ...request };
  return {
    event: "imported",
    name: image.name,
    ...request,
    disk_format: image.diskFormat,
    container_format: image.containerFormat,
    virtual_size: image.virtualSizeBytes,
    before: staged?.sizeBytes == null ? null : bytesOf(staged),
    after: bytesOf(image),
    verdict: preparation?.verdict ?? null,
    transforms: preparation?.transforms ?? null,
  };
}

function byStore(one: { readonly store: string }, other: { readonly store: string }): number {
  return one.store < other.store ? -1 : 1;
}

function requestOf(
  taskId: string,
  task: TaskRow | undefined,
  staged: StagedRow | undefined,
): Omit<RecordedRequest, "version" | "stores"> {
  // The claim has checked the request.
  const input: Partial<ImportRequest> = task?.input ?? {};
  const method = task === undefined ? null : (input.method ?? "glance-direct");
  return {
    task_id: taskId,
    run_id: task?.runId ?? null,
    request_id: task?.requestId ?? null,
    owner: task?.owner ?? null,
    user_id: task?.userId ?? null,
    roles: input.roles ?? [],
    method,
    // A URL that holds a secret is sealed in the request. The lease of the download has it without
    // the secret.
    source: staged?.fetchedFrom?.url ?? input.uri ?? null,
    expected_checksum: input.checksum ?? null,
    accepted_at: task?.createdAt.toISOString() ?? null,
  };
}

function bytesOf(
  row: Pick<ImageRow | StagedRow, "sizeBytes" | "checksum" | "osHashAlgo" | "osHashValue">,
): RecordedBytes {
  return {
    size: row.sizeBytes,
    checksum: row.checksum,
    os_hash_algo: row.osHashAlgo,
    os_hash_value: row.osHashValue,
  };
}
