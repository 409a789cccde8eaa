import { quotaLimitsOf, QUOTAS, type Limits, type Quota } from "../domain/quota.ts";
import type { Queries } from "./connect.ts";
import { readUsageOfAll } from "./quota-records.ts";

/**
 * The largest share of each quota that any owner uses, reservations included; 0 where no owner has
 * a limit.
 */
export async function readLargestShares(
  db: Queries,
  limits: Limits,
): Promise<Readonly<Record<Quota, number>>> {
  const largest = {
    image_size_total: 0,
    image_stage_total: 0,
    image_count_total: 0,
    image_count_uploading: 0,
  };
  if (!hasLimits(limits)) return largest;
  for (const { owner, usage } of await readUsageOfAll(db)) {
    const own = quotaLimitsOf(limits, owner);
    for (const quota of QUOTAS) {
      const used = usage[quota].usage + usage[quota].reserved;
      // An owner that may use nothing and uses nothing is not at its limit.
      const share = used === 0 ? 0 : used / own[quota];
      largest[quota] = Math.max(largest[quota], share);
    }
  }
  return largest;
}

function hasLimits({ everyOwner, owners }: Limits): boolean {
  return [everyOwner, ...owners.values()].some((limited) =>
    QUOTAS.some((quota) => limited[quota] !== Infinity),
  );
}
