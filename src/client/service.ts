import type { Readable } from "node:stream";
import type { ImageChanges } from "../domain/image-fields.ts";
import type { Report } from "../domain/report.ts";
import type { Administration } from "./administration.ts";
import type { HostFiles } from "./host-files.ts";
import type { ImageView } from "./image-view.ts";
import type { Images } from "./images.ts";
import type { Imports } from "./imports.ts";
import type { Members } from "./members.ts";
import type { StagedImage } from "./stage-image.ts";

/**
 * The part of the typed client that works from any machine. The client implements it, and so does
 * `remote`, over HTTP.
 */
export interface Service {
  /** True over HTTP: an upload continues where it broke off, also in another process. */
  readonly isRemote: boolean;
  readonly images: Pick<
    Images,
    | "create"
    | "show"
    | "history"
    | "pages"
    | "deactivate"
    | "reactivate"
    | "delete"
    | "discard"
    | "removeCopy"
  > & {
    resolve(reference: string): Promise<string>;
    change(imageId: string, changes: ImageChanges): Promise<ImageView>;
  };
  readonly imports: Pick<
    Imports,
    | "start"
    | "copy"
    | "wait"
    | "watch"
    | "running"
    | "pause"
    | "resume"
    | "dropStore"
    | "cancel"
    | "report"
  >;
  readonly files: Pick<HostFiles, "unstage" | "download"> & {
    stage(
      imageId: string,
      source: string | Readable,
      options?: {
        readonly replace?: boolean;
        readonly signal?: AbortSignal;
        readonly report?: Report;
      },
    ): Promise<StagedImage>;
  };
  readonly members: Pick<Members, "list" | "add" | "setStatus" | "remove">;
  readonly admin: Pick<
    Administration,
    "storeNames" | "listStores" | "showUsage" | "taskPages" | "resolveTask" | "showTask"
  >;
  close(): Promise<void>;
}
