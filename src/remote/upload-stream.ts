import { Readable } from "node:stream";
import type { StagedImage } from "../client/stage-image.ts";
import type { Report } from "../domain/report.ts";
import type { ApiConnection } from "./api-connection.ts";
import { RunningDigests } from "./running-digests.ts";

/** An upload of the data of an image. */
export interface Upload {
  readonly api: ApiConnection;
  readonly imageId: string;
  readonly signal: AbortSignal | undefined;
  readonly report: Report | undefined;
  /** Takes the reason of a wait, for the user. */
  readonly note: (text: string) => void;
}

/** Stages a stream to its end, with one request: its bytes cannot be read and sent again. */
export async function uploadStream(
  { api, imageId, signal, report }: Upload,
  source: Readable,
  sizeBytes?: number,
): Promise<StagedImage> {
  const digests = new RunningDigests();
  const body = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      digests.update(chunk, digests.doneBytes);
      report?.(digests.doneBytes, sizeBytes);
      yield chunk;
    }
  };
  const answer = await api.send({
    method: "PUT",
    path: `/v2/images/${imageId}/stage`,
    headers: {
      "content-type": "application/octet-stream",
      ...(sizeBytes === undefined ? {} : { "content-length": String(sizeBytes) }),
    },
    body: Readable.from(body(), { objectMode: false }),
    signal,
    headWithinMs: 0,
  });
  await answer.body.dump();
  return stagedBytes({ api, imageId }, digests);
}

/**
 * Shows the upload, after its digests were compared with those of the bytes that were sent.
 *
 * @throws ImportError `DigestMismatch`
 */
export async function stagedBytes(
  { api, imageId }: Pick<Upload, "api" | "imageId">,
  digests: RunningDigests,
): Promise<StagedImage> {
  const path = `/v1/images/${imageId}/stage`;
  const staged = await api.json<StagedImage>({ method: "GET", path });
  digests.requireSame(
    `The staged data of image "${imageId}" is not what was sent`,
    staged,
    `Stage the data again: \`image-import image stage ${imageId} FILE --replace\`.`,
  );
  return staged;
}
