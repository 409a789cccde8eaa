import type { Service } from "../client/service.ts";
import type { ApiAccess } from "../config/api-access.ts";
import { ApiConnection } from "./api-connection.ts";
import { RemoteAdministration } from "./remote-administration.ts";
import { RemoteFiles } from "./remote-files.ts";
import { RemoteImages } from "./remote-images.ts";
import { RemoteImports } from "./remote-imports.ts";
import { RemoteMembers } from "./remote-members.ts";

/** The interface of the typed client, over HTTP: for any machine that reaches an API. */
export class RemoteService implements Service {
  readonly isRemote = true;
  readonly images: RemoteImages;
  readonly imports: RemoteImports;
  readonly files: RemoteFiles;
  readonly members: RemoteMembers;
  readonly admin: RemoteAdministration;
  readonly #api: ApiConnection;

  /** @param note - takes the reason of a wait, for the user */
  constructor(access: ApiAccess, note: (text: string) => void) {
    this.#api = new ApiConnection(access);
    this.images = new RemoteImages(this.#api);
    this.imports = new RemoteImports(this.#api, note);
    this.files = new RemoteFiles(this.#api, note);
    this.members = new RemoteMembers(this.#api);
    this.admin = new RemoteAdministration(this.#api);
  }

  async close(): Promise<void> {
    await this.#api.close();
  }
}
