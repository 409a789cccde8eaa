import type { QuotaUsage } from "../db/quota-records.ts";
import { quotaLimitsOf, type Limits, type Quota } from "../domain/quota.ts";

/**
 * What an owner has, and may have, of each quota, as people and programs see it. Bytes, or numbers
 * of images.
 */
export interface UsageView {
  /** Null: the images that belong to nobody. */
  readonly owner: string | null;
  readonly usage: Readonly<Record<Quota, QuotaView>>;
}

interface QuotaView {
  /** Null: there is none. */
  readonly limit: number | null;
  /** What is there. */
  readonly usage: number;
  /** What imports and stagings that run may come to, beyond that. */
  readonly reserved: number;
}

/** Shows what the catalogue says of an owner. */
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
