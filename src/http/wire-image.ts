import type { ImageView, MemberView, TaskView } from "../client/image-view.ts";

/** An image as clients of Glance read it; properties of users stand beside the attributes. */
export type WireImage = Readonly<Record<string, unknown>>;

// Test suites read these two properties after an import. Later they are not shown: a tool that
// copies all properties of an image to a new one would fail on them.
const SHOWN_EMPTY_MS = 10 * 60_000;

/** Shows an image. Times are whole seconds in UTC, as Glance's. */
export function wireImage(image: ImageView): WireImage {
  const { id } = image;
  return {
    ...image.properties,
    ...storesOf(image),
    ...importOf(image),
    id,
    name: image.name,
    status: wireStatus(image),
    visibility: image.visibility,
    protected: image.protected,
    os_hidden: image.os_hidden,
    owner: image.owner,
    disk_format: image.disk_format,
    container_format: image.container_format,
    size: image.size,
    virtual_size: image.virtual_size,
    min_disk: image.min_disk,
    min_ram: image.min_ram,
    checksum: image.checksum,
    os_hash_algo: image.os_hash_algo,
    os_hash_value: image.os_hash_value,
    tags: image.tags,
    created_at: wireTime(image.created_at),
    updated_at: wireTime(image.updated_at),
    self: `/v2/images/${id}`,
    file: `/v2/images/${id}/file`,
    schema: "/v2/schemas/image",
  };
}

/**
 * The status as Glance reports it: an image is `saving` until it is active, if its upload is
 * imported as soon as it is complete, as with a PUT of `file`.
 */
export function wireStatus({ status, is_direct_upload: isDirect }: ImageView): string {
  return isDirect && (status === "uploading" || status === "importing") ? "saving" : status;
}

function storesOf({ stores }: ImageView): { readonly stores?: string } {
  return stores.length === 0 ? {} : { stores: stores.toSorted().join(",") };
}

function importOf(image: ImageView): Readonly<Record<string, string>> {
  const importing = image.os_glance_importing_to_stores;
  const failed = image.os_glance_failed_import;
  const task = image.os_glance_import_task;
  const isRecent = Date.parse(image.updated_at) > Date.now() - SHOWN_EMPTY_MS;
  const wasImported = isRecent && image.stores.length > 0;
  const isShown = wasImported || importing.length > 0 || failed.length > 0;
  return {
    ...(isShown ? { os_glance_importing_to_stores: importing.join(",") } : {}),
    ...(isShown ? { os_glance_failed_import: failed.join(",") } : {}),
    ...(task === null || image.is_direct_upload ? {} : { os_glance_import_task: task }),
  };
}

/** A time as Glance writes it: `2026-08-21T12:34:56Z`. */
export function wireTime(instant: string): string {
  return `${instant.slice(0, 19)}Z`;
}

/** Shows a member of an image. */
export function wireMember(member: MemberView): WireImage {
  return {
    member_id: member.member_id,
    image_id: member.image_id,
    status: member.status,
    created_at: wireTime(member.created_at),
    updated_at: wireTime(member.updated_at),
    schema: "/v2/schemas/member",
  };
}

/** Shows a task with all that it has. */
export function wireTask(task: TaskView): WireImage {
  const { input, result, message, image_id, request_id } = task;
  return { ...wireTaskStub(task), image_id, request_id, input, result, message };
}

/** Shows a task as a list of tasks does: without input, result and message. */
export function wireTaskStub(task: TaskView): WireImage {
  return {
    id: task.id,
    type: "api_image_import",
    status: task.status,
    owner: task.owner,
    user_id: task.user_id,
    expires_at: task.expires_at === null ? null : wireTime(task.expires_at),
    created_at: wireTime(task.created_at),
    updated_at: wireTime(task.updated_at),
    deleted_at: null,
    deleted: false,
    self: `/v2/tasks/${task.id}`,
    schema: "/v2/schemas/task",
  };
}
