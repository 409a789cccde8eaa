import type { Database } from "../db/connect.ts";
import { findDirectUpload } from "../db/direct-upload-records.ts";
import { settlesUpload } from "../domain/direct-upload.ts";
import { ImportError, UnlistedFailure } from "../domain/import-failure.ts";
import type { AcceptedImport, ImportOutcome } from "../workflow/contract.ts";
import type { StartOptions } from "./start-options.ts";

/** Options of the import of a direct upload. */
export interface FinishOptions {
  /** The name of the image, for the title of the run in the Web UI. */
  readonly imageName?: string | undefined;
  /** Called once the import is accepted. */
  readonly onAccepted?: (() => void) | undefined;
  /** Ends the wait; the import continues. */
  readonly signal?: AbortSignal | undefined;
}

/** The parts of the client that finish a direct upload. @internal */
export interface FinishTools {
  readonly catalogue: Database;
  readonly start: (imageId: string, options: StartOptions) => Promise<AcceptedImport>;
  readonly wait: (imageId: string, runId: string) => Promise<ImportOutcome>;
  readonly unstage: (imageId: string) => Promise<void>;
}

/**
 * Imports a complete direct upload, and waits for the end. A failed import removes the upload, so
 * that the image is `queued` again; see {@link settlesUpload}.
 *
 * @throws ImportError with the code of the import's failure; `ImageNotFound` if the image was
 *   deleted meanwhile; `Interrupted`
 * @internal
 */
export async function finishDirectUpload(
  { catalogue, start, wait, unstage }: FinishTools,
  imageId: string,
  { imageName, onAccepted, signal }: FinishOptions,
): Promise<ImportOutcome> {
  const upload = await catalogue.query((db) => findDirectUpload(db, imageId));
  if (upload === null) {
    throw new ImportError("ImportLost", `The upload of image "${imageId}" was taken away`);
  }
  try {
    const { run_id: runId } = await start(imageId, {
      directUpload: true,
      requestId: upload.request_id,
      stores: upload.stores,
      userId: upload.user_id,
      roles: upload.roles,
      expectedOwner: upload.expected_owner,
      imageName,
      signal,
    });
    onAccepted?.();
    return await unlessAborted(wait(imageId, runId), imageId, signal);
  } catch (error) {
    // A worker removes an upload that this process cannot remove.
    if (!continues(error)) await unstage(imageId).catch(() => undefined);
    throw error;
  }
}

/** True if the upload stays after this failure of its import: a worker imports it later. */
export function continues(error: unknown): boolean {
  const isOfImport = error instanceof ImportError || error instanceof UnlistedFailure;
  return !(isOfImport && settlesUpload(error));
}

async function unlessAborted<T>(
  work: Promise<T>,
  imageId: string,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (signal === undefined) return work;
  let leave: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    leave = () => {
      reject(
        new ImportError("Interrupted", `The import of image "${imageId}" continues`, {
          hint: `\`image-import watch ${imageId}\` shows it.`,
        }),
      );
    };
    signal.addEventListener("abort", leave, { once: true });
    if (signal.aborted) leave();
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", leave);
  }
}
