import { randomUUID } from "node:crypto";
import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import type { ImageChanges } from "../domain/image-fields.ts";
import type { ImageFilter, SeenBy } from "../domain/image-filter.ts";
import type { HistoryEntry } from "../domain/image-history.ts";
import { NO_LIMITS, type Limits } from "../domain/quota.ts";
import type { Visibility } from "../domain/visibility.ts";
import type { Connections } from "./connections.ts";
import type { CopyRemovalState, DeletionState } from "./delete-image.ts";
import { imageView, type ImageView, type SeenImage } from "./image-view.ts";
import { pagesOf } from "./pages-of.ts";
import { requireId } from "./require-id.ts";
import { resolveReference } from "./resolve-reference.ts";
import { askGuard, type WriteGuard } from "./write-guard.ts";

/** The fields of a new image. */
export interface CreateImage {
  /** Default: a new UUID. */
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  readonly owner?: string | undefined;
  readonly diskFormat?: DiskFormat | undefined;
  readonly containerFormat?: ContainerFormat | undefined;
  /** Default: `shared`. */
  readonly visibility?: Visibility | undefined;
  /** True: the image cannot be deleted, nor its staged data replaced. Default: false. */
  readonly protected?: boolean | undefined;
  /** True: Glance's lists leave it out unless they ask for it. Default: false. */
  readonly osHidden?: boolean | undefined;
  /** The disk that a machine needs to boot it, in GiB. Default: 0. */
  readonly minDisk?: number | undefined;
  /** The memory that a machine needs to boot it, in MiB. Default: 0. */
  readonly minRam?: number | undefined;
  readonly properties?: Readonly<Record<string, string>> | undefined;
  readonly tags?: readonly string[] | undefined;
}

/** The images of the catalogue. */
export class Images {
  readonly #connections: Connections;

  /** @internal */
  constructor(connections: Connections) {
    this.#connections = connections;
  }

  /**
   * Creates an image without data. The quotas of the configuration apply if this client has one.
   *
   * @throws ImportError `BadRequest`, `ImageExists`, `QuotaExceeded`
   */
  async create(image: CreateImage): Promise<ImageView> {
    const id = image.id ?? randomUUID();
    requireId(id);
    const { catalogue, findImage, insertImage } = await this.#records();
    return catalogue.transaction(async (db) => {
      await insertImage(db, this.#limits, { ...image, id });
      return imageView(await findImage(db, id));
    });
  }

  /**
   * Changes the fields that are given, all or none. The quotas of the configuration apply to a new
   * owner if this client has one.
   *
   * @param changes - or a function that decides on them while the image is locked for others. If it
   *   throws, nothing is changed
   * @param guard - asked first. Default: none
   * @throws ImportError `BadRequest`, `ImageNotFound`, `ImageConflict`, `QuotaExceeded`
   */
  async change(
    imageId: string,
    changes: ImageChanges | ((image: ImageView) => ImageChanges),
    guard?: WriteGuard,
  ): Promise<ImageView> {
    requireId(imageId);
    const { catalogue, changeImage, findImage, lockImage } = await this.#records();
    return catalogue.transaction(async (db) => {
      await askGuard(db, imageId, guard);
      await lockImage(db, imageId);
      const decided =
        typeof changes === "function" ? changes(imageView(await findImage(db, imageId))) : changes;
      await changeImage(db, this.#limits, imageId, decided);
      return imageView(await findImage(db, imageId));
    });
  }

  /** @throws ImportError `ImageNotFound` */
  async show(imageId: string): Promise<ImageView> {
    requireId(imageId);
    const { catalogue, findImage } = await this.#records();
    return imageView(await catalogue.query((db) => findImage(db, imageId)));
  }

  /**
   * Lists the events of an image from its publication on, the oldest first. They are kept until the
   * image is deleted, longer than the records of tasks. Empty for an image that is not published
   * yet. Events from before the first version with histories are missing.
   *
   * @throws ImportError `ImageNotFound`
   */
  async history(imageId: string): Promise<HistoryEntry[]> {
    requireId(imageId);
    const catalogue = await this.#connections.catalogue();
    const { listHistory } = await import("../db/history-records.ts");
    return catalogue.query((db) => listHistory(db, imageId));
  }

  /**
   * Shows an image and the relation of a project to it, both as they are at one moment. The caller
   * decides if the project may see the image.
   *
   * @param project - the id of the project; null: none, and so no membership
   * @throws ImportError `ImageNotFound`
   */
  async showFor(imageId: string, project: string | null): Promise<SeenImage> {
    requireId(imageId);
    const { catalogue, findImage } = await this.#records();
    const record = await catalogue.query((db) => findImage(db, imageId, project));
    return { image: imageView(record), membership: record.membership };
  }

  /**
   * The id of the image that a text stands for: a full id; else the exact name of one image; else
   * the beginning of the id of one image. Upper case in an id counts as lower case. A full id is
   * returned without a query of the catalogue.
   *
   * @param seenBy - only images that this caller sees. Default: all
   * @throws ImportError `BadRequest` if several images fit, listing them; `ImageNotFound`
   */
  async resolve(reference: string, seenBy?: SeenBy): Promise<string> {
    return resolveReference(this.#connections, "image", reference, seenBy);
  }

  /**
   * Lists one page of images, by default the 100 newest.
   *
   * @throws ImportError `BadRequest` for a marker that is gone
   */
  async list(filter: ImageFilter = {}): Promise<ImageView[]> {
    if (filter.marker !== undefined) requireId(filter.marker);
    const catalogue = await this.#connections.catalogue();
    const { listImages } = await import("../db/image-list.ts");
    return (await catalogue.query((db) => listImages(db, filter))).map(imageView);
  }

  /**
   * Lists all images that a filter chooses, page after page.
   *
   * @param filter - its `limit` is that of a page. Default: 500
   */
  async *pages(filter: ImageFilter = {}): AsyncGenerator<ImageView[]> {
    yield* pagesOf((page) => this.list({ ...filter, ...page }), filter);
  }

  /** `active → deactivated`: the image cannot be read. @throws ImportError `IllegalTransition` */
  async deactivate(imageId: string, guard?: WriteGuard): Promise<ImageView> {
    return this.#move(imageId, "deactivated", guard);
  }

  /** `deactivated → active`. @throws ImportError `IllegalTransition` */
  async reactivate(imageId: string, guard?: WriteGuard): Promise<ImageView> {
    return this.#move(imageId, "active", guard);
  }

  async #move(
    imageId: string,
    status: "active" | "deactivated",
    guard: WriteGuard | undefined,
  ): Promise<ImageView> {
    requireId(imageId);
    const { catalogue, moveImage } = await this.#records();
    await catalogue.transaction(async (db) => {
      await askGuard(db, imageId, guard);
      await moveImage(db, imageId, status);
    });
    return this.show(imageId);
  }

  /**
   * Deletes an image durably: it can no longer be found, its import is cancelled, and its bytes are
   * removed, even if a store or Temporal is unreachable now.
   *
   * @param waitMs - how long to wait until the bytes are removed. Default: 30 s
   * @param guard - default: none
   * @throws ImportError `ImageNotFound`, `ImageProtected`
   */
  async delete(imageId: string, waitMs = 30_000, guard?: WriteGuard): Promise<DeletionState> {
    requireId(imageId);
    const { beginDeletion } = await import("../db/deletion-records.ts");
    const catalogue = await this.#connections.catalogue();
    await catalogue.transaction(async (db) => {
      await askGuard(db, imageId, guard);
      await beginDeletion(db, imageId);
    });
    const { finishDeletion } = await import("./delete-image.ts");
    return finishDeletion(() => this.#connections.temporal(), imageId, waitMs);
  }

  /**
   * Deletes an image that was never published and that no import holds, and its staged data.
   *
   * @returns false, and changes nothing, if an import holds it, or if it is published or protected
   * @throws ImportError `ImageNotFound`
   */
  async discard(imageId: string, waitMs = 5_000, guard?: WriteGuard): Promise<boolean> {
    requireId(imageId);
    const { beginDiscarding } = await import("../db/deletion-records.ts");
    const catalogue = await this.#connections.catalogue();
    const isDiscarded = await catalogue.transaction(async (db) => {
      await askGuard(db, imageId, guard);
      return beginDiscarding(db, imageId);
    });
    if (!isDiscarded) return false;
    const { finishDeletion } = await import("./delete-image.ts");
    await finishDeletion(() => this.#connections.temporal(), imageId, waitMs);
    return true;
  }

  /**
   * Removes one copy of an active or deactivated image durably, but never its last. The copy can no
   * longer be read, and its bytes are removed, even if its store or Temporal is unreachable now. A
   * second call while the copy is being removed continues to wait.
   *
   * @param waitMs - how long to wait until the bytes are removed; `Infinity` waits as long as the
   *   removal can be followed. Default: 30 s
   * @param guard - default: none
   * @throws ImportError `ImageNotFound`; `CopyNotFound`; `ImageConflict` if the image is not
   *   published, or if it is the last copy
   */
  async removeCopy(
    imageId: string,
    store: string,
    waitMs = 30_000,
    guard?: WriteGuard,
  ): Promise<CopyRemovalState> {
    requireId(imageId);
    const { beginCopyRemoval } = await import("../db/deletion-records.ts");
    const catalogue = await this.#connections.catalogue();
    const { epoch, node } = await catalogue.transaction(async (db) => {
      await askGuard(db, imageId, guard);
      return beginCopyRemoval(db, imageId, store);
    });
    const copy = { image_id: imageId, epoch, store, node };
    const { finishCopyRemoval } = await import("./delete-image.ts");
    return finishCopyRemoval(() => this.#connections.temporal(), copy, waitMs);
  }

  get #limits(): Limits {
    return this.#connections.config?.limits ?? NO_LIMITS;
  }

  async #records() {
    const catalogue = await this.#connections.catalogue();
    return { catalogue, ...(await import("../db/image-records.ts")) };
  }
}
