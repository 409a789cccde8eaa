import type { Readable } from "node:stream";
import type { ImageView } from "../client/image-view.ts";
import type { ReadOptions } from "../client/read-image.ts";
import type { Service } from "../client/service.ts";
import type { StagedImage } from "../client/stage-image.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ApiConnection } from "./api-connection.ts";
import { downloadImage } from "./download-image.ts";
import { uploadFile } from "./upload-file.ts";
import { uploadStream } from "./upload-stream.ts";

type Files = Service["files"];
type StageOptions = NonNullable<Parameters<Files["stage"]>[2]>;

/** The bytes of images, over HTTP. See the methods of the same name of the client. */
export class RemoteFiles implements Files {
  readonly #api: ApiConnection;
  readonly #note: (text: string) => void;

  /** @param note - takes the reason of a wait, for the user */
  constructor(api: ApiConnection, note: (text: string) => void) {
    this.#api = api;
    this.#note = note;
  }

  /** Stages data. For a file, continues an earlier upload of it, also one of another command. */
  async stage(
    imageId: string,
    source: string | Readable,
    { replace = false, signal, report }: StageOptions = {},
  ): Promise<StagedImage> {
    const upload = { api: this.#api, imageId, signal, report, note: this.#note };
    try {
      const makeRoom = async (): Promise<void> => {
        if (replace) await this.#unstageIfStaged(imageId);
      };
      // Remove the earlier upload only once the new file can be read.
      if (typeof source === "string") return await uploadFile(upload, source, makeRoom);
      await makeRoom();
      return await uploadStream(upload, source);
    } catch (error) {
      if (signal?.aborted !== true) throw error;
      throw new ImportError("Interrupted", `Staging of image "${imageId}" was interrupted`, {
        cause: error,
        hint: "Run the command again.",
      });
    }
  }

  async unstage(imageId: string): Promise<void> {
    await this.#api.json({ method: "DELETE", path: `/v1/images/${imageId}/stage` });
  }

  async download(imageId: string, options: ReadOptions): Promise<ImageView> {
    return downloadImage({ api: this.#api, note: this.#note }, imageId, options);
  }

  async #unstageIfStaged(imageId: string): Promise<void> {
    const path = `/v1/images/${imageId}`;
    const { status } = await this.#api.json<ImageView>({ method: "GET", path });
    if (status === "uploading") await this.unstage(imageId);
  }
}
