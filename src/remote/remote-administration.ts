import type { TaskView } from "../client/image-view.ts";
import { pagesOf } from "../client/pages-of.ts";
import type { Service } from "../client/service.ts";
import type { StoreView } from "../client/store-view.ts";
import type { UsageView } from "../client/usage-view.ts";
import type { TaskFilter } from "../domain/image-filter.ts";
import { fullId } from "../domain/reference.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ApiConnection } from "./api-connection.ts";

/** Tasks, usage and stores, over HTTP. See the methods of the same name of the client. */
export class RemoteAdministration implements Pick<Service["admin"], keyof Service["admin"]> {
  readonly #api: ApiConnection;

  constructor(api: ApiConnection) {
    this.#api = api;
  }

  async storeNames(): Promise<string[]> {
    const path = "/v2/info/stores";
    const { stores } = await this.#api.json<{ stores: readonly { id: string }[] }>({
      method: "GET",
      path,
    });
    return stores.map(({ id }) => id);
  }

  async listStores(look: "writable" | "trial" = "writable"): Promise<StoreView[]> {
    if (look === "trial") throw onHostOnly("`stores --check`");
    const path = "/v1/stores";
    return (await this.#api.json<{ stores: StoreView[] }>({ method: "GET", path })).stores;
  }

  async showUsage(owner: string | null): Promise<UsageView> {
    const path = `/v1/usage?owner=${encodeURIComponent(owner ?? "")}`;
    return this.#api.json({ method: "GET", path });
  }

  async *taskPages(filter: TaskFilter = {}): AsyncGenerator<TaskView[]> {
    yield* pagesOf(async (page) => {
      const wanted = encodeURIComponent(JSON.stringify({ ...filter, ...page }));
      const path = `/v1/tasks?filter=${wanted}`;
      return (await this.#api.json<{ tasks: TaskView[] }>({ method: "GET", path })).tasks;
    }, filter);
  }

  async resolveTask(reference: string): Promise<string> {
    return fullId(reference) ?? (await this.showTask(reference)).id;
  }

  async showTask(taskId: string): Promise<TaskView> {
    return this.#api.json({ method: "GET", path: `/v1/tasks/${encodeURIComponent(taskId)}` });
  }
}

/** The refusal of an action that only a host of the service can do. */
export function onHostOnly(what: string): ImportError {
  return new ImportError("BadRequest", `${what} does not work over the API`, {
    hint: "Run it on a host of the service, without `--api` and IMAGE_IMPORT_API.",
  });
}
