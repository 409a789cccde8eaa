import type { Stores } from "../stores/open-stores.ts";

/** A store, as this host is configured. */
export interface StoreView {
  readonly name: string;
  /** `file` or `s3`. */
  readonly type: string;
  readonly default: boolean;
  /** Its images can be read; nothing is imported into it or removed from it. */
  readonly read_only: boolean;
  /** No command or step uses it. */
  readonly disabled: boolean;
  /** The path, or `s3://bucket/prefix`. */
  readonly location: string;
  /** Null if it is disabled: then it was not checked. */
  readonly works: boolean | null;
  /** The reason if it does not work. */
  readonly reason: string | null;
  /** Null if unknown, as for an S3 store. */
  readonly free_bytes: number | null;
  /**
   * `present` if its place has the store's mark, `none yet` if its first use writes one; null if it
   * does not work or if no catalogue is configured.
   */
  readonly mark: "present" | "none yet" | null;
}

/** Views of all stores; each one that is not disabled is checked. @internal */
export async function viewStores(stores: Stores, look: "writable" | "trial"): Promise<StoreView[]> {
  return Promise.all(
    stores.descriptions.map(async ({ name, type, location, isReadOnly, isDisabled }) => {
      const health = isDisabled ? undefined : await stores.get(name).check(look);
      return {
        name,
        type,
        default: name === stores.defaultName,
        read_only: isReadOnly,
        disabled: isDisabled,
        location,
        works: health?.works ?? null,
        reason: health?.reason ?? null,
        free_bytes: health?.freeBytes ?? null,
        mark: health?.mark ?? null,
      };
    }),
  );
}
