import { formatExactBytes } from "./byte-size.ts";
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

/** The limit of each quota of an owner, in bytes or images; `Infinity` means unlimited. */
export type QuotaLimits = Readonly<Record<Quota, number>>;

/** The limits of the service. */
export interface Limits {
  /** The largest size of one image, in bytes. */
  readonly imageSizeCapBytes: number;
  /** The limits of each owner that is not in `owners`. */
  readonly everyOwner: QuotaLimits;
  /** The limits of single owners by name, with the defaults filled in. */
  readonly owners: ReadonlyMap<string, QuotaLimits>;
}

/** The limits of an owner without limits. */
export const UNLIMITED: QuotaLimits = {
  image_size_total: Infinity,
  image_stage_total: Infinity,
  image_count_total: Infinity,
  image_count_uploading: Infinity,
};

/** No limits: for a client without a configuration. */
export const NO_LIMITS: Limits = {
  imageSizeCapBytes: Infinity,
  everyOwner: UNLIMITED,
  owners: new Map(),
};

/**
 * The limits of an owner.
 *
 * @param owner - null: images without an owner, which share the limits of one owner
 */
export function quotaLimitsOf(limits: Limits, owner: string | null): QuotaLimits {
  return (owner === null ? undefined : limits.owners.get(owner)) ?? limits.everyOwner;
}

/** True if any owner has a quota. */
export function hasQuotas({ everyOwner, owners }: Limits): boolean {
  const all = [everyOwner, ...owners.values()];
  return all.some((limits) => QUOTAS.some((quota) => limits[quota] !== Infinity));
}

/**
 * Refuses an image above the size cap.
 *
 * @throws ImportError `ImageTooLarge`
 */
export function requireBelowCap(limits: Limits, imageId: string, sizeBytes: number): void {
  if (sizeBytes <= limits.imageSizeCapBytes) return;
  throw new ImportError(
    "ImageTooLarge",
    `Image "${imageId}" is too large: it has ${formatExactBytes(sizeBytes)} at least, and image_size_cap is ${formatExactBytes(limits.imageSizeCapBytes)}`,
  );
}

/** The failure of a request above a quota, in Glance's words; numbers in bytes or images. */
export function quotaExceeded(
  owner: string | null,
  quota: Quota,
  {
    limit,
    usage,
    wanted,
  }: { readonly limit: number; readonly usage: number; readonly wanted: number },
): ImportError {
  const shown = (amount: number): string => amountOf(quota, amount);
  const whose = owner === null ? "images without an owner" : `owner "${owner}"`;
  return new ImportError(
    "QuotaExceeded",
    `${quota} of ${whose} is over limit of ${shown(limit)} due to current usage ${shown(usage)} and delta ${shown(wanted)}`,
  );
}

function amountOf(quota: Quota, amount: number): string {
  return quota.startsWith("image_count") ? String(amount) : formatExactBytes(amount);
}
