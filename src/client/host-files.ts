import type { Readable } from "node:stream";
import type { Report } from "../domain/report.ts";
import type { Connections } from "./connections.ts";
import type { ImageView } from "./image-view.ts";
import type { FinishOptions } from "./direct-upload.ts";
import type { ImportOutcome } from "../workflow/contract.ts";
import type { Images } from "./images.ts";
import type { Imports } from "./imports.ts";
import { pagesOf } from "./pages-of.ts";
import type { OpenImage, OpenOptions, ReadOptions, VerifiedLocation } from "./read-image.ts";
import { requireId } from "./require-id.ts";
import type { ResumableKey } from "../domain/resumable-key.ts";
import type { ResumableOrder, ResumableView } from "./resumable-upload.ts";
import type { NextBytes } from "./upload-writer.ts";
import type { WriteGuard } from "./write-guard.ts";
import type { StagedImage, StageOptions, StagingTools } from "./stage-image.ts";

/** Options of a verification. */
export interface VerifyOptions {
  readonly report?: Report;
}

/** The bytes of images, read and written by this host: its staging volume and its stores. */
export class HostFiles {
  readonly #connections: Connections;
  readonly #images: Images;
  readonly #imports: Imports;

  /** @internal */
  constructor(connections: Connections, images: Images, imports: Imports) {
    this.#connections = connections;
    this.#images = images;
    this.#imports = imports;
  }

  /**
   * Stages the data of a queued image, and digests it on the way.
   *
   * @param source - a path, or a stream that is read to its end
   * @throws ImportError `ImageNotFound`, `ImageConflict`, `StagingBusy`, `FileNotFound`,
   *   `UnusableFile`, `NoSpace`, `ImageTooLarge`, `QuotaExceeded`, `Interrupted`
   */
  async stage(
    imageId: string,
    source: string | Readable,
    options: StageOptions = {},
  ): Promise<StagedImage> {
    requireId(imageId);
    const { stageData } = await import("./stage-image.ts");
    return stageData(await this.#staging(), imageId, source, options);
  }

  /** Records a file below the staging root as the staged data of a queued image. */
  async adopt(imageId: string, uri?: string): Promise<StagedImage> {
    requireId(imageId);
    const { adoptStagedFile } = await import("./stage-image.ts");
    return adoptStagedFile(await this.#staging(), imageId, uri);
  }

  /**
   * Imports an upload that was staged with `importAfter`, and waits for the end. A failed import
   * removes the upload, so that the image is `queued` again. An import that has not begun, was
   * terminated, or reached a wrongly configured worker keeps it: a worker imports it later.
   *
   * @throws ImportError with the code of the import's failure; `ImageNotFound`, `ImportLost` if the
   *   image was deleted meanwhile; `Interrupted` if the wait was aborted: the import continues
   */
  async finishUpload(imageId: string, options: FinishOptions = {}): Promise<ImportOutcome> {
    requireId(imageId);
    const { finishDirectUpload } = await import("./direct-upload.ts");
    const imports = this.#imports;
    const tools = {
      catalogue: await this.#connections.catalogue(),
      start: imports.start.bind(imports),
      wait: imports.wait.bind(imports),
      unstage: (id: string) => this.unstage(id),
    };
    return finishDirectUpload(tools, imageId, options);
  }

  /**
   * Shows the upload of an image.
   *
   * @throws ImportError `ImageNotFound`; `StagedDataMissing` if there is none that is complete
   */
  async staged(imageId: string): Promise<StagedImage> {
    requireId(imageId);
    const { showUpload } = await import("./stage-image.ts");
    return showUpload(await this.#connections.catalogue(), imageId);
  }

  /**
   * Begins an upload of a queued image that outlives its writers: until it expires
   * ({@link ResumableView}), {@link continueUpload} brings its bytes, from any process that has the
   * same staging volume.
   *
   * @throws ImportError `ImageNotFound`, `ImageConflict`, `StagingBusy`, `NoSpace`,
   *   `ImageTooLarge`, `QuotaExceeded`
   */
  async beginUpload(order: ResumableOrder): Promise<ResumableView> {
    requireId(order.imageId);
    return (await this.#resumable()).beginUpload(await this.#staging(), order);
  }

  /**
   * Finds an upload of {@link beginUpload}, and the number of bytes that it has.
   *
   * @throws ImportError `ImportLost` if it no longer exists; `StagingUnavailable`
   */
  async findUpload(key: ResumableKey): Promise<ResumableView> {
    return (await this.#resumable()).findUpload(await this.#staging(), key);
  }

  /** The generation of the upload of an image that is not complete; null: there is none. */
  async findIncomplete(imageId: string): Promise<string | null> {
    return (await this.#resumable()).findIncomplete(await this.#staging(), imageId);
  }

  /**
   * Writes the next bytes of an upload of {@link beginUpload}. Bytes that were written before a
   * failure or an abort stay.
   *
   * @throws ImportError `ImportLost` if the upload no longer exists, `StagingBusy` if another
   *   writer writes, `ImageConflict` for another offset, `ImageTooLarge`, `ChecksumMismatch`,
   *   `NoSpace`, `StagingUnavailable`
   */
  async continueUpload(key: ResumableKey, next: NextBytes): Promise<ResumableView> {
    return (await this.#resumable()).continueUpload(await this.#staging(), key, next);
  }

  /**
   * Ends an upload of {@link beginUpload}, complete or not; the image is `queued` again.
   *
   * @throws ImportError `ImportLost` if it no longer exists, `ImageBusy`
   */
  async endUpload(key: ResumableKey, guard?: WriteGuard): Promise<void> {
    await (await this.#resumable()).endUpload(await this.#staging(), key, guard);
  }

  async #resumable() {
    return import("./resumable-upload.ts");
  }

  /**
   * Removes the staged data of an image that no import holds; the image is `queued` again.
   *
   * @param guard - asked first. Default: none
   */
  async unstage(imageId: string, guard?: WriteGuard): Promise<void> {
    requireId(imageId);
    const { dropStagedData } = await import("./stage-image.ts");
    await dropStagedData(await this.#staging(), imageId, guard);
  }

  /**
   * Writes the bytes of an active image to a stream, or to a file that appears only once it is
   * complete and verified.
   *
   * @throws ImportError `ImageConflict` if the image is not active, `DigestMismatch`
   */
  async download(imageId: string, options: ReadOptions): Promise<ImageView> {
    const image = await this.#images.show(imageId);
    const catalogue = await this.#connections.catalogue();
    const { readImage } = await import("./read-image.ts");
    await readImage(catalogue, await this.#connections.stores(), image, options);
    return image;
  }

  /**
   * Opens a published image to read bytes at any position. A copy that may have changed since its
   * last check is read to its end first. A reader that needs proof compares the digest of the
   * image.
   *
   * @throws ImportError `ImageNotFound`; `DigestMismatch`, `CopyNotFound`, `StoreUnavailable` if no
   *   copy can be read
   */
  async open(imageId: string, options: OpenOptions = {}): Promise<OpenImage> {
    const image = await this.#images.show(imageId);
    const catalogue = await this.#connections.catalogue();
    const { openImage } = await import("./read-image.ts");
    return openImage(catalogue, await this.#connections.stores(), image, options);
  }

  /** Reads every location of a published image and compares it with the recorded digests. */
  async verify(imageId: string, options: VerifyOptions = {}): Promise<VerifiedLocation[]> {
    requireId(imageId);
    const catalogue = await this.#connections.catalogue();
    const { verifyImage } = await import("./read-image.ts");
    return verifyImage(catalogue, await this.#connections.stores(), imageId, options.report);
  }

  /** The ids of all published images, in their order: those that {@link verify} can read. */
  async publishedIds(): Promise<string[]> {
    const catalogue = await this.#connections.catalogue();
    const { listPublished } = await import("../db/image-records.ts");
    const pages = pagesOf(
      ({ marker, limit }) => catalogue.query((db) => listPublished(db, marker, limit)),
      {},
    );
    const all: string[] = [];
    for await (const page of pages) all.push(...page.map(({ id }) => id));
    return all;
  }

  async #staging(): Promise<StagingTools> {
    const config = this.#connections.requireConfig();
    return {
      database: await this.#connections.catalogue(),
      staging: await this.#connections.staging(),
      hashAlgo: config.hashAlgo,
      timeToLiveMs: config.stagingTimeToLiveMs,
      bandwidthLimit: config.stagingBandwidthLimit,
      limits: config.limits,
    };
  }
}
