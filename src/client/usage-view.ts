import type { QuotaUsage } from "../db/quota-records.ts";
import { quotaLimitsOf, type Limits, type Quota } from "../domain/quota.ts";

/**
 * The usage and the limit of each quota of an owner: bytes, or numbers of images.
 */
export interface UsageView {
  /** Null: the images without an owner. */
  readonly owner: string | null;
  readonly usage: Readonly<Record<Quota, QuotaView>>;
}

/** The usage and the limit of one quota. */
export interface QuotaView {
  /** Null: no limit. */
  readonly limit: number | null;
  /** The amount in use. */
  readonly usage: number;
  /** The further amount that running imports and uploads may need. */
  readonly reserved: number;
}

/** Shows the usage of an owner. @internal */
export function usageView(
  owner: string | null,
  limits: Limits,
  used: Readonly<Record<Quota, QuotaUsage>>,
): UsageView {
  const allowed = quotaLimitsOf(limits, owner);
  const view = (quota: Quota): QuotaView => ({
    limit: Number.isFinite(allowed[quota]) ? allowed[quota] : null,
    ...used[quota],
  });
  return {
    owner,
    usage: {
      image_size_total: view("image_size_total"),
      image_stage_total: view("image_stage_total"),
      image_count_total: view("image_count_total"),
      image_count_uploading: view("image_count_uploading"),
    },
  };
}
