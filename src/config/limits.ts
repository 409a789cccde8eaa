import { z } from "zod";
import { UNLIMITED, type Limits, type QuotaLimits } from "../domain/quota.ts";
import { bytes, quotaBytes, quotaCount } from "./quantities.ts";

/** The four quotas, described for every owner or for one. */
function quotas(owner: string, fallback: string) {
  const facts = (limited: string) => ({ description: `${owner}: ${limited}.`, default: fallback });
  return {
    image_size_total: quotaBytes.optional().meta(facts("bytes in stores; every copy counts")),
    image_stage_total: quotaBytes.optional().meta(facts("bytes in staging")),
    image_count_total: quotaCount.optional().meta(facts("images")),
    image_count_uploading: quotaCount
      .optional()
      .meta(facts("images that are being staged or imported, or wait in staging")),
  };
}

/** The section `limits`. */
export const limits = z
  .strictObject({
    // Glance's default.
    image_size_cap: bytes.default(1024 ** 4).meta({
      description: "The largest image that is accepted.",
    }),
    ...quotas("Each owner", "no limit"),
    owners: z
      .record(
        z.string().min(1),
        z.strictObject(quotas("The owner NAME", "the quota of each owner")),
      )
      .default({}),
  })
  .prefault({});

/** The limits of the section, with defaults for the settings that it leaves out. */
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
