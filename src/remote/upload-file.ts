import type { FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { ImageView } from "../client/image-view.ts";
import { openUpload } from "../client/open-upload.ts";
import type { StagedImage } from "../client/stage-image.ts";
import { ImportError } from "../domain/import-failure.ts";
import { Patience } from "./patience.ts";
import { RunningDigests } from "./running-digests.ts";
import { stagedBytes, uploadStream, type Upload } from "./upload-stream.ts";

// The protocol is tus 1.0, https://tus.io/protocols/resumable-upload.

const TUS = { "tus-resumable": "1.0.0" };
const BLOCK_BYTES = 1024 * 1024;
// A connection that takes no byte for this long is dead: a laptop slept, or a network was left.
const STALLED_AFTER_MS = 30_000;
// After the last byte, the API may read and digest the bytes of earlier requests before it answers.
const LAST_ANSWER_WITHIN_MS = 600_000;
const LOOK_EVERY_MS = 1_000;
// The most bytes on the way to the API: no more than these are sent again after a failure.
const WINDOW_BYTES = 4 * 1024 * 1024;
const ASK_EVERY_MS = 25;
const SHORTEST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 500;

/** The path of an upload, below the address of the API. */
type Place = `/${string}`;

/** An upload of a file. */
interface Sent extends Upload {
  readonly path: string;
  readonly handle: FileHandle;
  readonly sizeBytes: number;
  readonly digests: RunningDigests;
}

/**
 * Stages a file. Once the upload has begun, it continues after a failure of the connection or of
 * the API with the first byte that the API lacks, and waits without a limit for an API that is
 * unreachable. Bytes that an earlier command has sent are not sent again.
 *
 * @param prepare - called once the file is open, before the first request
 * @throws ImportError `FileNotFound`, `UnusableFile`, `DigestMismatch`, the refusal of the API
 */
export async function uploadFile(
  upload: Upload,
  path: string,
  prepare: () => Promise<void> = async () => undefined,
): Promise<StagedImage> {
  const handle = await openUpload(path);
  try {
    const before = await handle.stat();
    await prepare();
    const { size: sizeBytes } = before;
    const staged = await sendFile({
      ...upload,
      ...{ path, handle, sizeBytes, digests: new RunningDigests() },
    });
    const { size, mtimeMs } = await handle.stat();
    if (size === sizeBytes && mtimeMs === before.mtimeMs) return staged;
    throw new ImportError("UnusableFile", `Cannot stage "${path}": it changed while it was sent`, {
      hint: `Once nothing writes to it, stage it again: \`image-import image stage ${upload.imageId} FILE --replace\`.`,
    });
  } finally {
    await handle.close();
  }
}

async function sendFile(sent: Sent): Promise<StagedImage> {
  const { sizeBytes } = sent;
  for (let isComplete = false; !isComplete;) {
    // An upload that can be continued has at least one byte.
    const place = sizeBytes === 0 ? undefined : await beginUpload(sent);
    if (place === undefined) {
      return uploadStream(sent, bytesOf(sent), sizeBytes);
    }
    if (place === "staged") return sameStaged(sent);
    isComplete = await sendAll(sent, place);
  }
  return stagedBytes(sent, sent.digests);
}

/** The bytes that the file had when it was opened, as many as the request announces. */
function bytesOf({ handle, sizeBytes }: Sent): Readable {
  return sizeBytes === 0
    ? Readable.from([])
    : handle.createReadStream({ autoClose: false, start: 0, end: sizeBytes - 1 });
}

/**
 * Makes an upload, or finds the one that an earlier command began.
 *
 * @returns its path; `staged` if the image has complete data; undefined if the API has no uploads
 *   that can be continued
 */
async function beginUpload(sent: Sent): Promise<Place | "staged" | undefined> {
  const { api, imageId, sizeBytes, signal } = sent;
  const metadata = metadataOf(imageId);
  const { statusCode, headers, body } = await api.send({
    method: "POST",
    path: "/uploads",
    headers: { ...TUS, "upload-length": String(sizeBytes), "upload-metadata": metadata },
    signal,
    expects: [404, 405, 409],
  });
  const text = await body.text();
  const { location } = headers;
  if (typeof location === "string") return api.pathOf(location, "/uploads");
  const isUnknown = statusCode === 405 || (statusCode === 404 && !text.includes('"failure"'));
  if (isUnknown) return undefined;
  const path = `/v1/images/${imageId}`;
  const { status } = await api.json<ImageView>({ method: "GET", path, signal });
  if (statusCode === 409 && status === "uploading") return "staged";
  throw api.refusal(statusCode, text);
}

function metadataOf(imageId: string): string {
  return `image_id ${Buffer.from(imageId).toString("base64")}`;
}

/**
 * Sends the bytes that the API does not have yet, until it has all of them.
 *
 * @returns false if the API no longer knows the upload
 */
async function sendAll(sent: Sent, place: Place): Promise<boolean> {
  const patience = new Patience("the upload continues when the API answers", sent);
  for (let reachedBytes = -1; ;) {
    try {
      const offset = await offsetOf(sent, place);
      if (offset === undefined) return false;
      if (offset > reachedBytes) patience.renew();
      reachedBytes = offset;
      await sent.digests.reach(sent.handle, offset, sent.signal);
      if (offset >= sent.sizeBytes) return true;
      await sendFrom(sent, place, offset);
    } catch (error) {
      await patience.wait(error);
    }
  }
}

/** The number of bytes that the API has; undefined if it no longer knows the upload. */
async function offsetOf(sent: Sent, path: Place): Promise<number | undefined> {
  const { api, imageId, sizeBytes, signal } = sent;
  const { statusCode, headers, body } = await api.send({
    method: "HEAD",
    path,
    headers: TUS,
    signal,
    expects: [404, 410],
  });
  await body.dump();
  if (statusCode >= 400) return undefined;
  const isOurs = headers["upload-metadata"] === metadataOf(imageId);
  if (Number(headers["upload-length"]) !== sizeBytes || !isOurs) throw otherData(imageId);
  return Number(headers["upload-offset"]);
}

/** Sends the bytes from an offset to the end of the file with one request. */
async function sendFrom(sent: Sent, path: Place, offset: number): Promise<void> {
  const { api, handle, sizeBytes, digests, report, signal } = sent;
  const stalled = new AbortController();
  const begunAtMs = Date.now();
  let movedAtMs = begunAtMs;
  let safeBytes = offset;
  let isSent = false;
  // The wall clock also counts the time in which the machine sleeps.
  const watch = setInterval(() => {
    const mostMs = isSent ? LAST_ANSWER_WITHIN_MS : STALLED_AFTER_MS;
    if (Date.now() - movedAtMs < mostMs) return;
    stalled.abort(new ImportError("ApiUnavailable", "The connection no longer takes bytes"));
  }, LOOK_EVERY_MS);
  let asking: Promise<void> | undefined;
  let askedAtMs = 0;
  /** Asks how many bytes the API has. */
  const ask = async (): Promise<void> => {
    askedAtMs = Date.now();
    const found = await offsetOf(sent, path);
    if (found === undefined) throw new ImportError("ApiUnavailable", "The upload is gone");
    if (found > safeBytes) movedAtMs = Date.now();
    safeBytes = Math.max(safeBytes, found);
  };
  const askOnce = async (): Promise<void> => {
    asking ??= ask().finally(() => {
      asking = undefined;
    });
    return asking;
  };
  /** Asks before the window is full: a slow answer would make the connection idle. */
  const askAhead = (end: number): void => {
    if (end - safeBytes <= WINDOW_BYTES / 2 || Date.now() - askedAtMs < ASK_EVERY_MS) return;
    // `arrived` asks again, and throws a failure that lasts.
    askOnce().catch(() => undefined);
  };
  /** Waits until no more than a window is on the way to the API. */
  const arrived = async (end: number): Promise<void> => {
    while (end - safeBytes > WINDOW_BYTES) {
      await askOnce();
      const missing = end - WINDOW_BYTES - safeBytes;
      if (missing <= 0) return;
      const bytesPerMs = (safeBytes - offset) / (Date.now() - begunAtMs + 1);
      const pauseMs = bytesPerMs === 0 ? 0 : missing / bytesPerMs;
      await sleep(Math.min(Math.max(pauseMs, SHORTEST_PAUSE_MS), LONGEST_PAUSE_MS));
      stalled.signal.throwIfAborted();
      signal?.throwIfAborted();
    }
  };
  const blocks = async function* (): AsyncGenerator<Uint8Array> {
    for (let position = offset; position < sizeBytes;) {
      const most = Math.min(BLOCK_BYTES, sizeBytes - position);
      askAhead(position + most);
      await arrived(position + most);
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(most), 0, most, position);
      if (bytesRead === 0) throw shorter(sent);
      const block = buffer.subarray(0, bytesRead);
      digests.update(block, position);
      position += bytesRead;
      movedAtMs = Date.now();
      report?.(position, sizeBytes);
      yield block;
    }
    isSent = true;
  };
  try {
    const { statusCode, body } = await api.send({
      method: "PATCH",
      path,
      headers: {
        ...TUS,
        "content-type": "application/offset+octet-stream",
        "content-length": String(sizeBytes - offset),
        "upload-offset": String(offset),
      },
      body: Readable.from(blocks(), { objectMode: false }),
      signal: signal === undefined ? stalled.signal : AbortSignal.any([signal, stalled.signal]),
      headWithinMs: 0,
      expects: [409],
    });
    await body.dump();
    if (statusCode === 409) throw new ImportError("StagingBusy", "The upload has another offset");
  } finally {
    clearInterval(watch);
  }
}

function shorter({ path }: Sent): ImportError {
  return new ImportError(
    "UnusableFile",
    `Cannot stage "${path}": it became shorter while it was sent`,
    { hint: "Run the command again once nothing writes to the file." },
  );
}

/**
 * The staged data of the image, if it is this file.
 *
 * @throws ImportError `ImageConflict`
 */
async function sameStaged(sent: Sent): Promise<StagedImage> {
  const { handle, sizeBytes, digests, imageId, signal } = sent;
  await digests.reach(handle, sizeBytes, signal);
  try {
    const staged = await stagedBytes(sent, digests);
    // A file that was adopted has no digests to compare.
    if (staged.size === sizeBytes && staged.os_hash_value !== null) return staged;
    throw otherData(imageId);
  } catch (error) {
    if (!(error instanceof ImportError && error.code === "DigestMismatch")) throw error;
    throw otherData(imageId);
  }
}

function otherData(imageId: string): ImportError {
  return new ImportError("ImageConflict", `Image "${imageId}" has an upload of other data`, {
    hint: `Name the same file, or replace it: \`image-import image stage ${imageId} FILE --replace\`.`,
  });
}
