import { randomUUID } from "node:crypto";
import type { ImageView } from "../client/image-view.ts";
import type { CreateImage } from "../client/images.ts";
import type { CopyRemovalState, DeletionState } from "../client/delete-image.ts";
import { pagesOf } from "../client/pages-of.ts";
import type { Service } from "../client/service.ts";
import { requireImageFields, type ImageChanges } from "../domain/image-fields.ts";
import type { ImageFilter } from "../domain/image-filter.ts";
import type { HistoryEntry } from "../domain/image-history.ts";
import { fullId } from "../domain/reference.ts";
import type { ApiConnection } from "./api-connection.ts";
import { onHostOnly } from "./remote-administration.ts";

// The API waits up to 30 s until the bytes of a deleted image are removed.
const DELETED_WITHIN_MS = 90_000;

type Images = Service["images"];

/** The images of the catalogue, over HTTP. See the methods of the same name of the client. */
export class RemoteImages implements Images {
  readonly #api: ApiConnection;

  constructor(api: ApiConnection) {
    this.#api = api;
  }

  async create(image: CreateImage): Promise<ImageView> {
    // Refuse a property with the name of an attribute: the document below would lose it.
    requireImageFields(image);
    const id = image.id ?? randomUUID();
    const json = {
      ...image.properties,
      id,
      name: image.name,
      owner: image.owner,
      disk_format: image.diskFormat,
      container_format: image.containerFormat,
      visibility: image.visibility,
      protected: image.protected,
      os_hidden: image.osHidden,
      min_disk: image.minDisk,
      min_ram: image.minRam,
      tags: image.tags,
    };
    await this.#api.json({ method: "POST", path: "/v2/images", json });
    return this.show(id);
  }

  async change(imageId: string, changes: ImageChanges): Promise<ImageView> {
    const path = `/v1/images/${imageId}`;
    return this.#api.json({ method: "PATCH", path, json: wireChanges(changes) });
  }

  async show(imageId: string): Promise<ImageView> {
    return this.#api.json({ method: "GET", path: `/v1/images/${encodeURIComponent(imageId)}` });
  }

  async history(imageId: string): Promise<HistoryEntry[]> {
    const path = `/v1/images/${imageId}/history`;
    return (await this.#api.json<{ history: HistoryEntry[] }>({ method: "GET", path })).history;
  }

  async resolve(reference: string): Promise<string> {
    return fullId(reference) ?? (await this.show(reference)).id;
  }

  async *pages(filter: ImageFilter = {}): AsyncGenerator<ImageView[]> {
    yield* pagesOf(async (page) => {
      const wanted = encodeURIComponent(JSON.stringify({ ...filter, ...page }));
      const path = `/v1/images?filter=${wanted}`;
      return (await this.#api.json<{ images: ImageView[] }>({ method: "GET", path })).images;
    }, filter);
  }

  async deactivate(imageId: string): Promise<ImageView> {
    return this.#act(imageId, "deactivate");
  }

  async reactivate(imageId: string): Promise<ImageView> {
    return this.#act(imageId, "reactivate");
  }

  async delete(imageId: string): Promise<DeletionState> {
    const { status } = await this.#api.json<{ status: DeletionState }>({
      method: "DELETE",
      path: `/v1/images/${imageId}`,
      headWithinMs: DELETED_WITHIN_MS,
    });
    return status;
  }

  async discard(imageId: string): Promise<boolean> {
    const path = `/v1/images/${imageId}/discard`;
    return (await this.#api.json<{ discarded: boolean }>({ method: "POST", path })).discarded;
  }

  async removeCopy(imageId: string, store: string, waitMs?: number): Promise<CopyRemovalState> {
    if (waitMs === Infinity) throw onHostOnly("The wait for the removal of a copy");
    const path = `/v2/stores/${encodeURIComponent(store)}/${imageId}`;
    await this.#api.json({ method: "DELETE", path });
    return "pending_delete";
  }

  async #act(imageId: string, action: "deactivate" | "reactivate"): Promise<ImageView> {
    await this.#api.json({ method: "POST", path: `/v2/images/${imageId}/actions/${action}` });
    return this.show(imageId);
  }
}

/** Changes in the words of the API. */
function wireChanges(changes: ImageChanges): object {
  return {
    attributes: {
      name: changes.name,
      owner: changes.owner,
      disk_format: changes.diskFormat,
      container_format: changes.containerFormat,
      visibility: changes.visibility,
      protected: changes.protected,
      os_hidden: changes.osHidden,
      min_disk: changes.minDisk,
      min_ram: changes.minRam,
      tags: changes.tags,
    },
    set_properties: changes.setProperties,
    remove_properties: changes.removeProperties,
    add_tags: changes.addTags,
    remove_tags: changes.removeTags,
  };
}
