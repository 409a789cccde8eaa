import { ImportError } from "./import-failure.ts";

/** Glance's four quotas of an owner: bytes of images and bytes in staging, numbers of images. */
export const QUOTAS = [
  "image_size_total",
  "image_stage_total",
  "image_count_total",
  "image_count_uploading",
] as const;

/** One quota of an owner. */
export type Quota = (typeof QUOTAS)[number];

/** How much of each quota an owner may have, in bytes or images; `Infinity` is no limit. */
export type QuotaLimits = Readonly<Record<Quota, number>>;

/** What the service allows. */
export interface Limits {
  /** How large one image may be, in bytes. */
  readonly imageSizeCapBytes: number;
  /** For every owner who is not named in `owners`. */
  readonly everyOwner: QuotaLimits;
  /** For single owners, by name, the defaults filled in. */
  readonly owners: ReadonlyMap<string, QuotaLimits>;
}

/** No owner is limited. */
export const UNLIMITED: QuotaLimits = {
  image_size_total: Infinity,
  image_stage_total: Infinity,
  image_count_total: Infinity,
  image_count_uploading: Infinity,
};

/** Nothing is limited: for those who were given no configuration. */
export const NO_LIMITS: Limits = {
  imageSizeCapBytes: Infinity,
  everyOwner: UNLIMITED,
  owners: new Map(),
};

/**
 * What an owner may have.
 *
 * @param owner - null: the images that belong to nobody, which share the limits of one owner
 */
export function quotaLimitsOf(limits: Limits, owner: string | null): QuotaLimits {
  return (owner === null ? undefined : limits.owners.get(owner)) ?? limits.everyOwner;
}

/**
 * Refuses an image that is larger than any may be.
 *
 * @throws ImportError `ImageTooLarge`
 */
export function requireBelowCap(limits: Limits, imageId: string, sizeBytes: number): void {
  if (sizeBytes <= limits.imageSizeCapBytes) return;
  throw new ImportError(
    "ImageTooLarge",
    `Image "${imageId}" is too large: it has ${String(sizeBytes)} bytes at least, and image_size_cap is ${String(limits.imageSizeCapBytes)}`,
  );
}

/** The failure of what does not fit, in Glance's words, with its numbers in bytes or images. */
export function quotaExceeded(
  owner: string | null,
  quota: Quota,
  {
    limit,
    usage,
    wanted,
  }: { readonly limit: number; readonly usage: number; readonly wanted: number },
): ImportError {
  const whose = owner === null ? "images without an owner" : `owner "${owner}"`;
  return new ImportError(
    "QuotaExceeded",
    `${quota} of ${whose} is over limit of ${String(limit)} due to current usage ${String(usage)} and delta ${String(wanted)}`,
  );
}
