import type { Connections } from "./connections.ts";
import { taskView, type TaskView } from "./image-view.ts";
import { requireId } from "./require-id.ts";
import { usageView, type UsageView } from "./usage-view.ts";

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

/** The result of an adoption: the place now belongs to the store. */
export interface AdoptedStore {
  readonly name: string;
  readonly location: string;
  readonly mark: string;
  /** True if the mark was written now; false if it was already there. */
  readonly is_new: boolean;
  /** The number of the catalogue's newest copies that were looked for in the place. */
  readonly looked_for: number;
  /** The number of those copies that exist there. */
  readonly found: number;
}

/** Tasks, quotas and stores. */
export class Administration {
  readonly #connections: Connections;

  constructor(connections: Connections) {
    this.#connections = connections;
  }

  /** Newest first. */
  async listTasks(
    filter: { readonly imageId?: string | undefined; readonly limit?: number } = {},
  ): Promise<TaskView[]> {
    const catalogue = await this.#connections.catalogue();
    const { listTasks } = await import("../db/task-records.ts");
    const rows = await catalogue.query((db) => listTasks(db, { limit: 100, ...filter }));
    return rows.map(taskView);
  }

  /** @throws ImportError `TaskNotFound` */
  async showTask(taskId: string): Promise<TaskView> {
    requireId(taskId, "task");
    const catalogue = await this.#connections.catalogue();
    const { findTask } = await import("../db/task-records.ts");
    return taskView(await catalogue.query((db) => findTask(db, taskId)));
  }

  /**
   * Shows an owner's usage of each quota, and the limits in the configuration of this host.
   *
   * @param owner - null: the images without an owner
   */
  async showUsage(owner: string | null): Promise<UsageView> {
    const { limits } = this.#connections.requireConfig();
    const catalogue = await this.#connections.catalogue();
    const { readUsage } = await import("../db/quota-records.ts");
    return usageView(owner, limits, await catalogue.query((db) => readUsage(db, owner)));
  }

  /**
   * Lists the stores of this host, and checks each one that is not disabled.
   *
   * @param look - `trial` also writes a small file into each writable store, reads it back and
   *   removes it. Default: `writable`
   */
  async listStores(look: "writable" | "trial" = "writable"): Promise<StoreView[]> {
    const stores = await this.#connections.stores();
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

  /**
   * Marks the place of a store as the store's, after the place was moved, replaced, emptied or
   * restored, or lost its mark. Copies that the catalogue lists and that are not there count as
   * missing from then on.
   *
   * @throws ImportError `UnknownStore`; `ImageConflict` if the place belongs to another store;
   *   `StoreUnavailable`, `PermissionDenied`; `NotConfigured` without a catalogue
   */
  async adoptStore(name: string): Promise<AdoptedStore> {
    const stores = await this.#connections.stores();
    const adopted = await stores.get(name).adopt();
    const location = stores.descriptions.find((each) => each.name === name)?.location ?? "";
    return {
      name,
      location,
      mark: adopted.mark,
      is_new: adopted.isNew,
      looked_for: adopted.lookedFor,
      found: adopted.found,
    };
  }
}
