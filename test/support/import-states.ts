import type { ImportState } from "./import-rig.ts";

/** An image that is back where it was before the import: staged, and nothing else. */
export const BACK_TO_STAGED: Omit<ImportState, "task"> = {
  image: "uploading",
  isClaimed: false,
  failedStores: [],
  locations: [],
  leases: [],
  staging: ["@"],
  fast: [],
  slow: [],
};

/** An image that is imported into the store `fast` and copied into the store `slow`. */
export const COPIED: Omit<ImportState, "task"> = {
  image: "active",
  isClaimed: false,
  failedStores: [],
  locations: ["fast active", "slow active"],
  leases: [],
  staging: [],
  fast: ["@.1"],
  slow: ["@.2"],
};

/** An image that is imported into the store `fast`. */
export const IMPORTED: Omit<ImportState, "task"> = {
  image: "active",
  isClaimed: false,
  failedStores: [],
  locations: ["fast active"],
  leases: [],
  staging: [],
  fast: ["@.1"],
  slow: [],
};
