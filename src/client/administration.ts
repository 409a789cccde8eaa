import { ImportError } from "../domain/import-failure.ts";
import type { TaskFilter } from "../domain/image-filter.ts";
import type { Leftovers, Reconciled } from "../workflow/contract.ts";
import type { Connections } from "./connections.ts";
import type { ServicePlaces } from "./examine-service.ts";
import type { Finding } from "./finding.ts";
import { taskView, type TaskView } from "./image-view.ts";
import { pagesOf } from "./pages-of.ts";
import { requireId } from "./require-id.ts";
import { resolveReference } from "./resolve-reference.ts";
import { viewStores, type StoreView } from "./store-view.ts";
import { usageView, type UsageView } from "./usage-view.ts";

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

// The sweep of a node takes four minutes at most, and an undo two.
const RECONCILE_PATIENCE_MS = 600_000;

/** Tasks, quotas and stores, and the state of the service itself. */
export class Administration {
  readonly #connections: Connections;

  /** @internal */
  constructor(connections: Connections) {
    this.#connections = connections;
  }

  /**
   * Lists one page of tasks, by default the 100 newest.
   *
   * @throws ImportError `BadRequest` for a marker that is gone
   */
  async listTasks(filter: TaskFilter = {}): Promise<TaskView[]> {
    if (filter.marker !== undefined) requireId(filter.marker, "task");
    const catalogue = await this.#connections.catalogue();
    const { listTasks } = await import("../db/task-records.ts");
    return (await catalogue.query((db) => listTasks(db, filter))).map(taskView);
  }

  /**
   * Lists all tasks that a filter chooses, page after page.
   *
   * @param filter - its `limit` is that of a page. Default: 500
   */
  async *taskPages(filter: TaskFilter = {}): AsyncGenerator<TaskView[]> {
    yield* pagesOf((page) => this.listTasks({ ...filter, ...page }), filter);
  }

  /**
   * The id of the task that a text stands for: a full id, or the beginning of one. Upper case
   * counts as lower case.
   *
   * @throws ImportError `BadRequest` if several tasks fit, listing them; `TaskNotFound`
   */
  async resolveTask(reference: string): Promise<string> {
    return resolveReference(this.#connections, "task", reference);
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

  /** The names of the stores of this host. @throws ImportError `NotConfigured` */
  async storeNames(): Promise<string[]> {
    return Object.keys(this.#connections.requireConfig().stores);
  }

  /**
   * Lists the stores of this host, and checks each one that is not disabled.
   *
   * @param look - `trial` also writes a small file into each writable store, reads it back and
   *   removes it. Default: `writable`
   */
  async listStores(look: "writable" | "trial" = "writable"): Promise<StoreView[]> {
    return viewStores(await this.#connections.stores(), look);
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

  /**
   * Checks everything that imports depend on, and changes nothing. A check that fails does not stop
   * the others.
   *
   * @param places - further parts of the service to check. Default: none
   */
  async doctor(places: ServicePlaces = {}): Promise<Finding[]> {
    const { examineService } = await import("./examine-service.ts");
    return examineService(this.#connections, places);
  }

  /**
   * Runs the reconciler once, as its Schedule does regularly: a worker undoes what no running
   * import owns, continues deletions, and removes what has expired. Work that failed is in
   * `failures`. Two callers share one run.
   *
   * @param waitMs - how long to wait for its end. Default: 10 min
   * @throws ImportError `NotAcceptedYet` if it has not ended by then; `TemporalUnavailable`
   */
  async reconcile(waitMs = RECONCILE_PATIENCE_MS): Promise<Reconciled> {
    const { reconcile } = await import("./reconcile.ts");
    return reconcile(await this.#connections.temporal(), waitMs);
  }

  /**
   * Finds the work that {@link reconcile} would do now, and changes nothing. Work that becomes
   * possible only after the release of a claim is not included.
   *
   * @param waitMs - how long to wait for the workers. Default: 10 min
   * @throws ImportError `NotAcceptedYet` if they have not answered by then; `TemporalUnavailable`
   */
  async findLeftovers(waitMs = RECONCILE_PATIENCE_MS): Promise<Leftovers> {
    const { findLeftovers } = await import("./reconcile.ts");
    return findLeftovers(await this.#connections.temporal(), waitMs);
  }

  /**
   * Checks that the catalogue answers, and takes writes.
   *
   * @throws ImportError `NotConfigured`, `DatabaseUnavailable`
   */
  async requireCatalogue(): Promise<void> {
    const { takesWrites } = await import("../db/migration-status.ts");
    if (await takesWrites(await this.#connections.catalogue())) return;
    throw new ImportError("DatabaseUnavailable", "It is read-only, as a standby is");
  }

  /** Checks that Temporal answers. @throws ImportError `TemporalUnavailable` */
  async requireTemporal(): Promise<void> {
    const { connection, options } = await this.#connections.temporal();
    const { temporalFailure } = await import("../temporal/temporal-failure.ts");
    try {
      await connection.workflowService.describeNamespace({ namespace: options.namespace });
    } catch (error) {
      throw temporalFailure(error);
    }
  }

  /** Checks that this host's staging area can be written. @throws ImportError `NotConfigured` */
  async requireStaging(): Promise<void> {
    await this.#connections.staging();
  }

  /**
   * Brings the catalogue's schema to this version.
   *
   * @throws ImportError `NotConfigured`, `DatabaseUnavailable`
   */
  async migrateDatabase(): Promise<void> {
    const { migrateDatabase } = await import("../db/migrate.ts");
    await migrateDatabase(this.#connections.requireDatabaseUrl());
  }

  /**
   * Registers the search attributes of imports in the Temporal namespace, and sets the retention of
   * runs if the configuration has one.
   *
   * @returns true if the retention was set
   * @throws ImportError `TemporalUnavailable`
   */
  async prepareNamespace(): Promise<boolean> {
    const { registerSearchAttributes } = await import("../temporal/search-attributes.ts");
    const { setRunRetention } = await import("../temporal/run-retention.ts");
    const { withNamespace } = await import("../temporal/with-namespace.ts");
    const { address, config } = this.#connections;
    await withNamespace(address, registerSearchAttributes);
    const { runTimeToLiveMs } = config ?? {};
    if (runTimeToLiveMs === undefined) return false;
    await withNamespace(address, (connection, namespace) =>
      setRunRetention(connection, namespace, runTimeToLiveMs),
    );
    return true;
  }
}
