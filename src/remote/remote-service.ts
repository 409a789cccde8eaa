import type { Service } from "../client/service.ts";
import type { ApiAccess } from "../config/api-access.ts";
import { ApiConnection } from "./api-connection.ts";
import { RemoteFiles } from "./remote-files.ts";
import { RemoteImages } from "./remote-images.ts";
import { RemoteImports } from "./remote-imports.ts";

/** The part of the typed client that an API gives to any machine. */
export class RemoteService implements Service {
  readonly isRemote = true;
  readonly images: RemoteImages;
  readonly imports: RemoteImports;
  readonly files: RemoteFiles;
  readonly #api: ApiConnection;

  /** @param note - takes the reason of a wait, for the user */
  constructor(access: ApiAccess, note: (text: string) => void) {
    this.#api = new ApiConnection(access);
    this.images = new RemoteImages(this.#api);
    this.imports = new RemoteImports(this.#api, note);
    this.files = new RemoteFiles(this.#api, note);
  }

  readonly admin: Service["admin"] = {
    storeNames: async () => {
      const path = "/v2/info/stores";
      const { stores } = await this.#api.json<{ stores: readonly { id: string }[] }>({
        method: "GET",
        path,
      });
      return stores.map(({ id }) => id);
    },
  };

  async close(): Promise<void> {
    await this.#api.close();
  }
}
