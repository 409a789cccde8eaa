import { z } from "zod";
import { UNLIMITED, type Limits, type QuotaLimits } from "../domain/quota.ts";
import { bytes, quotaBytes, quotaCount } from "./quantities.ts";

const quotas = {
  image_size_total: quotaBytes.optional(),
  image_stage_total: quotaBytes.optional(),
  image_count_total: quotaCount.optional(),
  image_count_uploading: quotaCount.optional(),
};

/** The section `limits`. */
export const limits = z
  .strictObject({
    // Glance's.
    image_size_cap: bytes.default(1024 ** 4),
    ...quotas,
    owners: z.record(z.string().min(1), z.strictObject(quotas)).default({}),
  })
  .prefault({});

/** What the section says, with what it leaves out. */
export function limitsOf({
  image_size_cap: imageSizeCapBytes,
  owners,
  ...defaults
}: z.output<typeof limits>): Limits {
  const everyOwner = withDefaults(defaults, UNLIMITED);
  return {
    imageSizeCapBytes,
    everyOwner,
    owners: new Map(
      Object.entries(owners).map(([name, own]) => [name, withDefaults(own, everyOwner)]),
    ),
  };
}

function withDefaults(
  own: { readonly [Quota in keyof QuotaLimits]?: number | undefined },
  defaults: QuotaLimits,
): QuotaLimits {
  return {
    image_size_total: own.image_size_total ?? defaults.image_size_total,
    image_stage_total: own.image_stage_total ?? defaults.image_stage_total,
    image_count_total: own.image_count_total ?? defaults.image_count_total,
    image_count_uploading: own.image_count_uploading ?? defaults.image_count_uploading,
  };
}
