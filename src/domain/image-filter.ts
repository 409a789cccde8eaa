import type { ContainerFormat, DiskFormat } from "./disk-format.ts";
import type { ImageStatus } from "./image-status.ts";
import type { TaskStatus } from "./task-status.ts";

/** The keys by which a list of images can be sorted. */
export const IMAGE_SORT_KEYS = [
  "created_at",
  "updated_at",
  "name",
  "owner",
  "status",
  "size",
] as const;
/** The keys by which a list of tasks can be sorted. */
export const TASK_SORT_KEYS = ["created_at", "updated_at", "status"] as const;

/** The order of a list. Equal rows are in the order of their ids. */
export interface Sort<Key extends string> {
  readonly key: Key;
  readonly direction: "asc" | "desc";
}

/** One page of a list. */
export interface Page<Key extends string> {
  /** Default: newest first. A value that is unknown is the largest. */
  readonly sort?: Sort<Key> | undefined;
  /** The id of the last row of the page before. Default: the first page. */
  readonly marker?: string | undefined;
  /** The largest number of rows. Default: 100. */
  readonly limit?: number | undefined;
}

/** Limits of the times of a row; `after` is included, `before` is not. */
export interface TimeFilter {
  readonly createdAfter?: Date | undefined;
  readonly createdBefore?: Date | undefined;
  readonly updatedAfter?: Date | undefined;
  readonly updatedBefore?: Date | undefined;
}

/** A choice of images: those to which everything that is given applies. */
export interface ImageFilter extends TimeFilter, Page<(typeof IMAGE_SORT_KEYS)[number]> {
  readonly status?: ImageStatus | undefined;
  /** Null: the images without an owner. */
  readonly owner?: string | null | undefined;
  /** The exact name. */
  readonly name?: string | undefined;
  /**
   * A pattern of names: `*` is any text, `?` is any character, `\` takes the next one literally.
   */
  readonly namePattern?: string | undefined;
  readonly diskFormat?: DiskFormat | undefined;
  readonly containerFormat?: ContainerFormat | undefined;
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
}

/** A choice of tasks: those to which everything that is given applies. */
export interface TaskFilter extends TimeFilter, Page<(typeof TASK_SORT_KEYS)[number]> {
  readonly imageId?: string | undefined;
  readonly status?: TaskStatus | undefined;
  /** Null: the tasks without an owner. */
  readonly owner?: string | null | undefined;
}
