import type { ImageRecord } from "../db/image-records.ts";
import type { TaskRow } from "../db/task-records.ts";
import type { MemberRow } from "../db/member-records.ts";
import type { FailureDetails } from "../domain/failure-details.ts";
import type { MemberStatus, Visibility } from "../domain/visibility.ts";

/** An image, with Glance's names; sizes in bytes, times in ISO 8601. */
export interface ImageView {
  readonly id: string;
  readonly name: string | null;
  readonly owner: string | null;
  readonly status: string;
  readonly disk_format: string | null;
  readonly container_format: string | null;
  readonly visibility: Visibility;
  /** True: the image cannot be deleted, and its staged data cannot be replaced. */
  readonly protected: boolean;
  /** True: Glance's lists leave it out unless they ask for it. */
  readonly os_hidden: boolean;
  /** The disk that a machine needs to boot it, in GiB; 0: any. */
  readonly min_disk: number;
  /** The memory that a machine needs to boot it, in MiB; 0: any. */
  readonly min_ram: number;
  readonly size: number | null;
  readonly virtual_size: number | null;
  readonly checksum: string | null;
  readonly os_hash_algo: string | null;
  readonly os_hash_value: string | null;
  /** Stores that have it. */
  readonly stores: readonly string[];
  readonly locations: readonly {
    readonly store: string;
    readonly url: string;
    /** The difference between this copy and the image at its last check; null if it found none. */
    readonly damage: string | null;
  }[];
  readonly os_glance_importing_to_stores: readonly string[];
  readonly os_glance_failed_import: readonly string[];
  /** The task that imports the image now. */
  readonly os_glance_import_task: string | null;
  /** True from the start of an upload that is imported automatically to the end of that import. */
  readonly is_direct_upload: boolean;
  readonly properties: Readonly<Record<string, string>>;
  readonly tags: readonly string[];
  readonly created_at: string;
  readonly updated_at: string;
}

/** An image as a project may see it. */
export interface SeenImage {
  readonly image: ImageView;
  /** The answer of the project to the offer of the image; null: the image is not offered to it. */
  readonly membership: MemberStatus | null;
}

/** A member of an image, with Glance's names. */
export interface MemberView {
  readonly image_id: string;
  /** The id of a project. */
  readonly member_id: string;
  readonly status: MemberStatus;
  readonly created_at: string;
  readonly updated_at: string;
}

/** A task, with Glance's names. */
export interface TaskView {
  readonly id: string;
  readonly type: string;
  readonly status: string;
  readonly image_id: string;
  readonly owner: string | null;
  readonly workflow_id: string;
  readonly run_id: string;
  readonly request_id: string | null;
  /** The user who requested the import; null: unknown. */
  readonly user_id: string | null;
  readonly input: Readonly<Record<string, unknown>>;
  readonly result: { readonly image_id: string } | null;
  readonly message: string;
  /** The failure in this message. Null if the task did not fail, or if its code is not recorded. */
  readonly failure: FailureDetails | null;
  readonly created_at: string;
  readonly updated_at: string;
  readonly expires_at: string | null;
}

/** Shows a record of the catalogue. @internal */
export function imageView({ image, properties, tags, locations }: ImageRecord): ImageView {
  const isPublished = image.status === "active" || image.status === "deactivated";
  const live = isPublished ? locations : [];
  return {
    id: image.id,
    name: image.name,
    owner: image.owner,
    status: image.status,
    disk_format: image.diskFormat,
    container_format: image.containerFormat,
    visibility: image.visibility,
    protected: image.protected,
    os_hidden: image.osHidden,
    min_disk: image.minDisk,
    min_ram: image.minRam,
    size: image.sizeBytes,
    virtual_size: image.virtualSizeBytes,
    checksum: image.checksum,
    os_hash_algo: image.osHashAlgo,
    os_hash_value: image.osHashValue,
    stores: live.map((location) => location.store),
    locations: live.map(({ store, url, damage }) => ({ store, url, damage })),
    os_glance_importing_to_stores: image.importingToStores,
    os_glance_failed_import: image.failedImport,
    os_glance_import_task: image.claimTaskId,
    is_direct_upload: image.directUpload !== null,
    properties,
    tags,
    created_at: image.createdAt.toISOString(),
    updated_at: image.updatedAt.toISOString(),
  };
}

/** Shows a member of an image of the catalogue. @internal */
export function memberView(row: MemberRow): MemberView {
  return {
    image_id: row.imageId,
    member_id: row.member,
    status: row.status,
    created_at: row.createdAt.toISOString(),
    updated_at: row.updatedAt.toISOString(),
  };
}

/** Shows a task of the catalogue. @internal */
export function taskView(task: TaskRow): TaskView {
  return {
    id: task.id,
    type: task.type,
    status: task.status,
    image_id: task.imageId,
    owner: task.owner,
    workflow_id: task.workflowId,
    run_id: task.runId,
    request_id: task.requestId,
    user_id: task.userId,
    input: task.input,
    result: task.result,
    message: task.message,
    failure: failureOf(task),
    created_at: task.createdAt.toISOString(),
    updated_at: task.updatedAt.toISOString(),
    expires_at: task.expiresAt?.toISOString() ?? null,
  };
}

function failureOf({ code, hint, step, store }: TaskRow): FailureDetails | null {
  if (code === null) return null;
  return {
    code,
    ...(hint === null ? {} : { hint }),
    ...(step === null ? {} : { step }),
    ...(store === null ? {} : { store }),
  };
}
