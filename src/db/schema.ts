import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  check,
  foreignKey,
  index,
  integer,
  json,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";
import type { Fingerprint } from "../bytes/fingerprint.ts";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import type { DirectUpload } from "../domain/direct-upload.ts";
import type { EarlyEnd } from "../domain/early-end.ts";
import { CONTAINER_FORMATS, DISK_FORMATS } from "../domain/disk-format.ts";
import type { ImageEvent } from "../domain/image-history.ts";
import { IMAGE_STATUSES } from "../domain/image-status.ts";
import type { Place } from "../domain/place.ts";
import { TASK_STATUSES, TASK_TYPE } from "../domain/task-status.ts";
import { MEMBER_STATUSES, VISIBILITIES } from "../domain/visibility.ts";

/** The words of a closed union as `'a', 'b'`, for a CHECK: the database rejects all other words. */
function quoted(words: readonly string[]) {
  return sql.raw(words.map((word) => `'${word}'`).join(", "));
}

/** The source of a download and how far it got: the facts to resume it. */
export interface FetchedFrom {
  /** Without secrets. */
  readonly url: string;
  /**
   * The validator with which the source must agree before the download is resumed; null: it cannot
   * be resumed.
   */
  readonly validator: string | null;
  /** Null: the source did not report it. */
  readonly sizeBytes: number | null;
  /** Bytes that also survive the death of the machine. */
  readonly syncedBytes: number;
  /** The boot of the machine that wrote the bytes after `syncedBytes`: they survive only in it. */
  readonly bootId: string;
  /** The early end of the attempts so far. Default: none, or the last one got further. */
  readonly end?: EarlyEnd | undefined;
}

/** The facts of an upload that outlives its writers: one request after another brings its bytes. */
export interface ResumableUpload {
  /** Part of its address; a later upload of the image has another one. */
  readonly generation: string;
  readonly lengthBytes: number;
  /** `Upload-Metadata`, as its sender wrote it. */
  readonly metadata: string;
  /** True while a writer holds the lease; otherwise the upload waits for its next bytes. */
  readonly isHeld: boolean;
  /** True once another request has asked for the lease. */
  readonly isWanted: boolean;
  /** Bytes that also survive the death of the machine. */
  readonly syncedBytes: number;
  /** The boot of the machine that wrote the bytes after `syncedBytes`: they survive only in it. */
  readonly bootId: string;
  /**
   * The number of bytes before a request whose checksum was not compared yet: later bytes do not
   * count. Null: there is no such request.
   */
  readonly checkedBytes: number | null;
  /** The bytes that are being copied into the part. Null or absent: the part has them all. */
  readonly source?: UploadSource | null;
  /**
   * The fingerprint of the complete part, recorded before it gets its final name. Null or absent:
   * it is not complete.
   */
  readonly complete?: Fingerprint | null;
}

/**
 * The part of a writer that may be alive. The upload continues in a copy of it; until the copy is
 * complete, these bytes are those of the upload.
 */
export interface UploadSource {
  readonly part: string;
  /**
   * The number of bytes of the part that count; bytes that its writer adds later do not. Null: not
   * decided yet.
   */
  readonly lengthBytes: number | null;
  /** The boot of the machine that writes the copy; null: its writing has not begun. */
  readonly bootId: string | null;
}

const sizeBytes = (name: string) => bigint(name, { mode: "number" });
const instant = (name: string) => timestamp(name, { withTimezone: true });

/**
 * The images, and in each row the claim of the one import that may write it. `epoch` is the fence:
 * it grows with every claim, and every write of an import names its epoch.
 */
export const images = pgTable(
  "images",
  {
    id: uuid("id").primaryKey(),
    name: text("name"),
    owner: text("owner"),
    status: text("status", { enum: IMAGE_STATUSES }).notNull().default("queued"),
    diskFormat: text("disk_format", { enum: DISK_FORMATS }),
    containerFormat: text("container_format", { enum: CONTAINER_FORMATS }),
    visibility: text("visibility", { enum: VISIBILITIES }).notNull().default("shared"),
    /** True: the image cannot be deleted, and its staged data cannot be replaced. */
    protected: boolean("protected").notNull().default(false),
    /** True: lists leave the image out unless their caller asks for hidden images. */
    osHidden: boolean("os_hidden").notNull().default(false),
    /** The disk that a machine needs to boot it, in GiB. */
    minDisk: integer("min_disk").notNull().default(0),
    /** The memory that a machine needs to boot it, in MiB. */
    minRam: integer("min_ram").notNull().default(0),
    sizeBytes: sizeBytes("size"),
    virtualSizeBytes: sizeBytes("virtual_size"),
    checksum: text("checksum"),
    osHashAlgo: text("os_hash_algo"),
    osHashValue: text("os_hash_value"),
    importingToStores: text("os_glance_importing_to_stores")
      .array()
      .notNull()
      .default(sql`'{}'`),
    failedImport: text("os_glance_failed_import")
      .array()
      .notNull()
      .default(sql`'{}'`),
    epoch: integer("epoch").notNull().default(0),
    claimTaskId: uuid("claim_task_id"),
    claimWorkflowId: text("claim_workflow_id"),
    claimRunId: text("claim_run_id"),
    claimEarlierStatus: text("claim_earlier_status", { enum: ["queued", "uploading", "active"] }),
    /**
     * Reservation of the claim in its owner's quotas; meaningless without a claim. Bytes of each
     * copy, so far.
     */
    claimSizeBytes: sizeBytes("claim_size").notNull().default(0),
    claimCopies: integer("claim_copies").notNull().default(0),
    /** Bytes of products in staging. */
    claimProductBytes: sizeBytes("claim_products").notNull().default(0),
    /** The import that follows the upload that runs or waits; null: none follows automatically. */
    directUpload: jsonb("direct_upload").$type<DirectUpload>(),
    createdAt: instant("created_at").notNull().defaultNow(),
    updatedAt: instant("updated_at").notNull().defaultNow(),
    deletedAt: instant("deleted_at"),
  },
  (image) => [
    check("images_status_legal", sql`${image.status} IN (${quoted(IMAGE_STATUSES)})`),
    check("images_disk_format_known", sql`${image.diskFormat} IN (${quoted(DISK_FORMATS)})`),
    check(
      "images_container_format_known",
      sql`${image.containerFormat} IN (${quoted(CONTAINER_FORMATS)})`,
    ),
    check("images_visibility_legal", sql`${image.visibility} IN (${quoted(VISIBILITIES)})`),
    check("images_minima_not_negative", sql`${image.minDisk} >= 0 AND ${image.minRam} >= 0`),
    // No image can be stuck: an image that is being imported names its run.
    check(
      "images_importing_is_claimed",
      sql`${image.status} NOT IN ('importing', 'saving') OR ${image.claimTaskId} IS NOT NULL`,
    ),
    check(
      "images_claim_whole",
      sql`num_nonnulls(${image.claimTaskId}, ${image.claimWorkflowId}, ${image.claimRunId}, ${image.claimEarlierStatus}) IN (0, 4)`,
    ),
    check(
      "images_active_is_verified",
      sql`${image.status} NOT IN ('active', 'deactivated') OR num_nonnulls(${image.sizeBytes}, ${image.checksum}, ${image.osHashAlgo}, ${image.osHashValue}) = 4`,
    ),
    // Each key by which lists are sorted, with its tie-breakers. They also find the images of one
    // value, and the pages of a list of them. An unknown value is an empty one there: an index
    // cannot begin after a marker whose value is NULL.
    index("images_created_index").on(image.createdAt, image.id),
    index("images_updated_index").on(image.updatedAt, image.createdAt, image.id),
    index("images_status_index").on(image.status, image.createdAt, image.id),
    index("images_name_order_index").on(
      sql`coalesce(${image.name}, '')`,
      image.createdAt,
      image.id,
    ),
    index("images_owner_order_index").on(
      sql`coalesce(${image.owner}, '')`,
      image.createdAt,
      image.id,
    ),
    index("images_disk_format_index").on(
      sql`coalesce(${image.diskFormat}, '')`,
      image.createdAt,
      image.id,
    ),
    index("images_container_format_index").on(
      sql`coalesce(${image.containerFormat}, '')`,
      image.createdAt,
      image.id,
    ),
    index("images_size_index").on(sql`coalesce(${image.sizeBytes}, 0)`, image.createdAt, image.id),
    // Other columns by which lists are filtered.
    index("images_visibility_index").on(image.visibility, image.createdAt, image.id),
    // The index leaves out the usual value, which almost every image has: Postgres would use an
    // index with it although reading the table is cheaper.
    index("images_protected_index")
      .on(image.createdAt, image.id)
      .where(sql`${image.protected}`),
    index("images_hidden_index")
      .on(image.createdAt, image.id)
      .where(sql`${image.osHidden}`),
    index("images_min_disk_index").on(image.minDisk, image.createdAt, image.id),
    index("images_min_ram_index").on(image.minRam, image.createdAt, image.id),
    index("images_checksum_index").using("hash", image.checksum),
    index("images_os_hash_value_index").using("hash", image.osHashValue),
    index("images_owner_index").on(image.owner),
    index("images_name_index")
      .on(image.name, image.id)
      .where(sql`${image.status} <> 'deleted'`),
  ],
);

/** Properties that users set on an image. The namespace `os_glance_` is the service's own. */
export const imageProperties = pgTable(
  "image_properties",
  {
    imageId: uuid("image_id")
      .notNull()
      .references(() => images.id),
    name: text("name").notNull(),
    value: text("value").notNull(),
    /** The beginning of the value, for an index: a complete one may be too long. */
    valueStart: text("value_start")
      .notNull()
      .generatedAlwaysAs(sql`left(value, 100)`),
  },
  (property) => [
    primaryKey({ columns: [property.imageId, property.name] }),
    check("image_properties_not_reserved", sql`NOT starts_with(${property.name}, 'os_glance_')`),
    index("image_properties_value_index").on(property.name, property.valueStart, property.imageId),
  ],
);

/** Tags that users put on an image. */
export const imageTags = pgTable(
  "image_tags",
  {
    imageId: uuid("image_id")
      .notNull()
      .references(() => images.id),
    tag: text("tag").notNull(),
  },
  (tag) => [
    primaryKey({ columns: [tag.imageId, tag.tag] }),
    index("image_tags_tag_index").on(tag.tag, tag.imageId),
  ],
);

/** The projects to which the owner of an image offers it. They go with the image. */
export const imageMembers = pgTable(
  "image_members",
  {
    imageId: uuid("image_id")
      .notNull()
      .references(() => images.id),
    /** The id of the project. */
    member: text("member").notNull(),
    status: text("status", { enum: MEMBER_STATUSES }).notNull().default("pending"),
    createdAt: instant("created_at").notNull().defaultNow(),
    updatedAt: instant("updated_at").notNull().defaultNow(),
  },
  (member) => [
    primaryKey({ columns: [member.imageId, member.member] }),
    check("image_members_status_legal", sql`${member.status} IN (${quoted(MEMBER_STATUSES)})`),
    index("image_members_member_index").on(member.member, member.status, member.imageId),
  ],
);

/**
 * The history of images, from their publication on. A row is written in the transaction of the
 * change that it reports, under the lock of the image, and is kept as long as the row of the image.
 */
export const imageHistory = pgTable(
  "image_history",
  {
    id: bigint("id", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    imageId: uuid("image_id")
      .notNull()
      .references(() => images.id),
    /**
     * The time of the write, not the beginning of its transaction: that may be before an earlier
     * change of the image.
     */
    at: instant("at")
      .notNull()
      .default(sql`clock_timestamp()`),
    /** Not `jsonb`, which rejects some characters that a verdict may quote from an image. */
    event: json("event").$type<ImageEvent>().notNull(),
  },
  (entry) => [index("image_history_image_index").on(entry.imageId, entry.id)],
);

/**
 * The locations of images. `pending` until the image is active, `pending_delete` until the
 * bytes are gone; then the row goes. Readers see `active` rows only.
 */
export const imageLocations = pgTable(
  "image_locations",
  {
    imageId: uuid("image_id")
      .notNull()
      .references(() => images.id),
    store: text("store").notNull(),
    epoch: integer("epoch").notNull(),
    status: text("status", { enum: ["pending", "active", "pending_delete"] }).notNull(),
    /** The staging volume whose worker reaches the store. */
    node: text("node").notNull(),
    /** Name of the copy inside the store. */
    key: text("key").notNull(),
    url: text("url").notNull(),
    sizeBytes: sizeBytes("size").notNull(),
    crc32: sizeBytes("crc32").notNull(),
    /** True while the copy is another name of the staged file's inode. */
    shared: boolean("shared").notNull().default(false),
    /**
     * The version of the copy when it was checked, in the terms of its store; null: from before
     * this was recorded.
     */
    version: text("version"),
    /** The reason why a later check found the copy damaged; null: none did. */
    damage: text("damage"),
    createdAt: instant("created_at").notNull().defaultNow(),
  },
  (location) => [
    primaryKey({ columns: [location.imageId, location.store, location.epoch] }),
    check(
      "image_locations_status_legal",
      sql`${location.status} IN ('pending', 'active', 'pending_delete')`,
    ),
    uniqueIndex("image_locations_one_live")
      .on(location.imageId, location.store)
      .where(sql`${location.status} <> 'pending_delete'`),
    index("image_locations_store_index").on(location.store, location.imageId),
  ],
);

/**
 * The mark that the place of each store carries. A place without it is an empty mount point, or
 * another place: it is neither written nor trusted.
 */
export const storeMarks = pgTable("store_marks", {
  store: text("store").primaryKey(),
  mark: text("mark").notNull().unique(),
  recordedAt: instant("recorded_at").notNull().defaultNow(),
});

/**
 * The staging volume that each host has used at each path. A directory without an id at such a path
 * is an empty mount point, and no new volume.
 */
export const volumeUses = pgTable(
  "volume_uses",
  {
    /** Machine id and host name, as a process identity has them. */
    machine: text("machine").notNull(),
    root: text("root").notNull(),
    node: text("node").notNull(),
    recordedAt: instant("recorded_at").notNull().defaultNow(),
  },
  (use) => [primaryKey({ columns: [use.machine, use.root] })],
);

/** The result of each request to import. */
export const tasks = pgTable(
  "tasks",
  {
    id: uuid("id").primaryKey(),
    type: text("type").notNull().default(TASK_TYPE),
    status: text("status", { enum: TASK_STATUSES }).notNull().default("pending"),
    owner: text("owner"),
    imageId: uuid("image_id").notNull(),
    requestId: text("request_id"),
    /** The user who requested the import; null: unknown. */
    userId: text("user_id"),
    workflowId: text("workflow_id").notNull(),
    runId: text("run_id").notNull(),
    input: jsonb("input").$type<Record<string, unknown>>().notNull(),
    result: jsonb("result").$type<{ readonly image_id: string }>(),
    message: text("message").notNull().default(""),
    /** The failure of a task that failed; null in a task that did not, and where it is unknown. */
    code: text("code"),
    hint: text("hint"),
    step: text("step"),
    store: text("store"),
    createdAt: instant("created_at").notNull().defaultNow(),
    updatedAt: instant("updated_at").notNull().defaultNow(),
    /** The time from which the record of an ended task may be removed; null before its end. */
    expiresAt: instant("expires_at"),
  },
  (task) => [
    check("tasks_status_legal", sql`${task.status} IN (${quoted(TASK_STATUSES)})`),
    index("tasks_image_index").on(task.imageId, task.createdAt),
    index("tasks_created_index").on(task.createdAt),
  ],
);

/** The report of a transform on its product: kept for an attempt that comes after a lost result. */
export interface MadeProduct {
  readonly transform: string;
  readonly diskFormat: string;
  readonly properties: Readonly<Record<string, string>>;
  /** Absent if it named none, and in rows of 0.1.0. */
  readonly tool?: string | undefined;
}

/** The facts of a copy that has its final name and was checked. */
export interface FinishedCopy {
  readonly sizeBytes: number;
  readonly crc32: number;
  /** The copy is another name of the staged file's inode. */
  readonly shared: boolean;
  /**
   * The version of the copy when it was checked, in the terms of its store. Default: none, so that
   * it is read again before it goes live.
   */
  readonly version?: string | undefined;
}

/** The facts with which a transform undoes its outside effects. */
export interface TransformEffects {
  readonly diskFormat: string;
  readonly containerFormat: string;
  /** Roles of the user who requested the import. */
  readonly roles: readonly string[];
}

/**
 * The writers of bytes. A row says who writes an upload, a download, a product or a copy before its
 * first byte exists, and names the files to remove; it also promises to undo the outside effects of
 * a transform. The writer of an upload renews `renewed_at`, and another process may take over a
 * lease that was not renewed in time. All other leases live as long as the claim of their import.
 */
export const leases = pgTable(
  "leases",
  {
    imageId: uuid("image_id").notNull(),
    /** The import; 0: an upload, which no import owns. */
    epoch: integer("epoch").notNull(),
    place: text("place").$type<Place>().notNull(),
    /** The staging volume whose worker reaches the bytes. */
    node: text("node").notNull(),
    /** The attempt that holds the lease. A late writer finds another's token here, and stops. */
    token: uuid("token").notNull(),
    writer: jsonb("writer").$type<ProcessIdentity>().notNull(),
    /**
     * The place of the writer among the attempts of its import; null: an upload, a lease that a
     * sweeper has taken away, or a row of a version that recorded no order.
     */
    attempt: jsonb("attempt").$type<AttemptOrder>(),
    /** Attempt-private name, inside the staging root or the store; null: no bytes have one. */
    part: text("part"),
    /** Private names of earlier attempts whose files may still exist. */
    earlierParts: text("earlier_parts")
      .array()
      .notNull()
      .default(sql`'{}'`),
    /** The name of the whole bytes: an absolute path in staging, a key in a store. */
    path: text("path").notNull(),
    state: text("state", { enum: ["writing", "whole"] }).notNull(),
    renewedAt: instant("renewed_at").notNull().defaultNow(),
    /**
     * Reservation of an upload or download in its owner's quota, ahead of the bytes; 0 once it is
     * whole and has a `size`.
     */
    reservedBytes: sizeBytes("reserved").notNull().default(0),
    /** The facts to resume a download. */
    fetchedFrom: jsonb("fetched_from").$type<FetchedFrom>(),
    /** The facts to continue an upload; null: it ends with its writer. */
    resumable: jsonb("resumable").$type<ResumableUpload>(),
    /** The time until which an incomplete upload with such facts is kept without a writer. */
    resumableUntil: instant("resumable_until"),
    /** True once a download over several connections failed: later attempts use one. */
    singleConnection: boolean("single_connection").notNull().default(false),
    /** The facts of a copy that is whole. */
    copy: jsonb("copy").$type<FinishedCopy>(),
    /** The outside effects of a transform. */
    effects: jsonb("effects").$type<TransformEffects>(),
  },
  (lease) => [
    primaryKey({ columns: [lease.imageId, lease.epoch, lease.place] }),
    check("leases_state_legal", sql`${lease.state} IN ('writing', 'whole')`),
    check(
      "leases_whole_copy_is_checked",
      sql`${lease.state} = 'writing' OR NOT starts_with(${lease.place}, 'store/') OR ${lease.copy} IS NOT NULL`,
    ),
    index("leases_path_index").on(lease.path),
  ],
);

/** The facts of complete bytes in staging. They go with their lease. */
export const stagedFiles = pgTable(
  "staged_files",
  {
    imageId: uuid("image_id").notNull(),
    epoch: integer("epoch").notNull(),
    place: text("place").$type<Place>().notNull(),
    /** True if this service wrote them, so that no other process holds the file open. */
    ours: boolean("ours").notNull(),
    sizeBytes: sizeBytes("size").notNull(),
    fingerprint: jsonb("fingerprint").$type<Fingerprint>().notNull(),
    checksum: text("checksum"),
    osHashAlgo: text("os_hash_algo"),
    osHashValue: text("os_hash_value"),
    crc32: sizeBytes("crc32"),
    /** Blocks that are zero, as `ZeroBlocks` writes them; they hold as long as the digests do. */
    zeroBlocks: text("zero_blocks").notNull().default(""),
    /** The one store whose copy is a link to the staged inode. */
    linkedStore: text("linked_store"),
    stagedAt: instant("staged_at").notNull(),
    expiresAt: instant("expires_at").notNull(),
    /** Report of the transform, for a product. */
    made: jsonb("made").$type<MadeProduct>(),
  },
  (staged) => [
    primaryKey({ columns: [staged.imageId, staged.epoch, staged.place] }),
    foreignKey({
      name: "staged_files_lease_fk",
      columns: [staged.imageId, staged.epoch, staged.place],
      foreignColumns: [leases.imageId, leases.epoch, leases.place],
    }).onDelete("cascade"),
  ],
);
