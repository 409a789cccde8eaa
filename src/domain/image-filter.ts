import type { ContainerFormat, DiskFormat } from "./disk-format.ts";
import type { ImageStatus } from "./image-status.ts";
import type { TaskStatus } from "./task-status.ts";
import type { MemberStatus, Visibility } from "./visibility.ts";

/** The keys by which a list of images can be sorted. */
export const IMAGE_SORT_KEYS = [
  "created_at",
  "updated_at",
  "name",
  "owner",
  "status",
  "size",
  "disk_format",
  "container_format",
  "id",
] as const;
/** The keys by which a list of tasks can be sorted. */
export const TASK_SORT_KEYS = ["created_at", "updated_at", "status"] as const;

/** The order of a list by one key. */
export interface Sort<Key extends string> {
  readonly key: Key;
  readonly direction: "asc" | "desc";
}

/** One page of a list. */
export interface Page<Key extends string> {
  /**
   * The order, by one key or by several. Equal rows are in the order of `created_at`, then `id`: in
   * the direction of the keys if all keys have the same one, else descending. An unknown text
   * counts as empty, and an unknown size as 0. Default: newest first.
   */
  readonly sort?: Sort<Key> | readonly Sort<Key>[] | undefined;
  /** The id of the last row of the page before. Default: the first page. */
  readonly marker?: string | undefined;
  /** The largest number of rows; 0 gives an empty page. Default: 100. */
  readonly limit?: number | undefined;
}

/** Limits of the times of a row; `after` is included, `before` is not. */
export interface TimeFilter {
  readonly createdAfter?: Date | undefined;
  readonly createdBefore?: Date | undefined;
  readonly updatedAfter?: Date | undefined;
  readonly updatedBefore?: Date | undefined;
}

/**
 * A condition on a time as it is shown, in whole seconds: `eq` of a time that is shown finds the
 * image.
 */
export interface TimeCondition {
  readonly field: "created_at" | "updated_at";
  readonly op: "gt" | "gte" | "lt" | "lte" | "eq" | "neq";
  readonly at: Date;
}

/**
 * A caller of a list. It sees images that are `public`, its own, and `shared` ones of which it is a
 * member.
 */
export interface SeenBy {
  /** The project of the caller; null: it has none, so that nothing is its own. */
  readonly project: string | null;
  /** The answer of the project to shared images. Images that it answered otherwise are left out. */
  readonly memberStatus: MemberStatus | "all";
  /** True adds the `community` images of others. */
  readonly community: boolean;
}

/** A choice of images: those that meet all given conditions. */
export interface ImageFilter extends TimeFilter, Page<(typeof IMAGE_SORT_KEYS)[number]> {
  /** One of these ids. */
  readonly id?: readonly string[] | undefined;
  /** One status, or one of several. Default: any but `deleted`. */
  readonly status?: ImageStatus | readonly ImageStatus[] | undefined;
  /** Null: the images without an owner. */
  readonly owner?: string | null | undefined;
  /** The exact name, or one of several. */
  readonly name?: string | readonly string[] | undefined;
  /**
   * A pattern of names: `*` is any text, `?` is any character, `\` takes the next one literally.
   */
  readonly namePattern?: string | undefined;
  readonly diskFormat?: DiskFormat | readonly DiskFormat[] | undefined;
  readonly containerFormat?: ContainerFormat | readonly ContainerFormat[] | undefined;
  readonly visibility?: Visibility | undefined;
  /** Default: both. */
  readonly protected?: boolean | undefined;
  /** True: those that are hidden; false: those that are not. Default: both. */
  readonly hidden?: boolean | undefined;
  readonly checksum?: string | undefined;
  readonly osHashValue?: string | undefined;
  /** A store from which it can be read. */
  readonly store?: string | undefined;
  /** It has all these tags. */
  readonly tags?: readonly string[] | undefined;
  /** It has all these properties, with these values. */
  readonly properties?: Readonly<Record<string, string>> | undefined;
  /** The smallest size, in bytes. */
  readonly sizeMin?: number | undefined;
  /** The largest size, in bytes. */
  readonly sizeMax?: number | undefined;
  /** The exact disk that it needs, in GiB. */
  readonly minDisk?: number | undefined;
  readonly minDiskMin?: number | undefined;
  readonly minDiskMax?: number | undefined;
  /** The exact memory that it needs, in MiB. */
  readonly minRam?: number | undefined;
  readonly minRamMin?: number | undefined;
  readonly minRamMax?: number | undefined;
  /** All these apply. */
  readonly times?: readonly TimeCondition[] | undefined;
  /** Only the images that this caller sees. Default: all. */
  readonly seenBy?: SeenBy | undefined;
}

/** A choice of tasks: those that meet all given conditions. */
export interface TaskFilter extends TimeFilter, Page<(typeof TASK_SORT_KEYS)[number]> {
  readonly imageId?: string | undefined;
  readonly status?: TaskStatus | undefined;
  /** Null: the tasks without an owner. */
  readonly owner?: string | null | undefined;
}
