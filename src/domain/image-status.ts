import { ImportError } from "./import-failure.ts";

/** The states in the life of an image. Glance's words. */
export const IMAGE_STATUSES = [
  "queued",
  "uploading",
  "importing",
  "saving",
  "active",
  "deactivated",
  "pending_delete",
  "deleted",
] as const;

/** The state of an image in its life; `deleted` is the end. */
export type ImageStatus = (typeof IMAGE_STATUSES)[number];

/**
 * The only legal changes. A transaction that makes one locks the row of the image before, or
 * repeats the earlier status in its WHERE.
 */
const LEGAL_CHANGES: Readonly<Record<ImageStatus, readonly ImageStatus[]>> = {
  queued: ["uploading", "importing", "pending_delete"],
  uploading: ["queued", "importing", "pending_delete"],
  // The change back to `queued` or `uploading` is the undo.
  importing: ["saving", "active", "queued", "uploading", "pending_delete"],
  saving: ["active", "queued", "uploading", "pending_delete"],
  active: ["deactivated", "pending_delete"],
  deactivated: ["active", "pending_delete"],
  pending_delete: ["deleted"],
  deleted: [],
};

/**
 * The status an image has after a change, if the change is legal.
 *
 * @throws ImportError `IllegalTransition` naming both statuses
 */
export function nextImageStatus(from: ImageStatus, to: ImageStatus): ImageStatus {
  if (LEGAL_CHANGES[from].includes(to)) return to;
  throw new ImportError("IllegalTransition", `Cannot change an image from "${from}" to "${to}"`);
}

/** The statuses from which an image may become `to`. */
export function imageStatusesBefore(to: ImageStatus): ImageStatus[] {
  return IMAGE_STATUSES.filter((from) => LEGAL_CHANGES[from].includes(to));
}
