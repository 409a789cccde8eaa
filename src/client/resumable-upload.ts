import { createHash, randomUUID } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { newPartName } from "../bytes/part-name.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { ZeroBlocks } from "../bytes/zero-blocks.ts";
import {
  beginResumable,
  findGeneration,
  findResumable,
  renewResumable,
  takeResumable,
  takeResumableAway,
  wantResumable,
  type ResumableRow,
} from "../db/resumable-records.ts";
import { dropStaging } from "../db/upload-records.ts";
import type { Digests } from "../domain/digests.ts";
import type { DirectUpload } from "../domain/direct-upload.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ResumableKey } from "../domain/resumable-key.ts";
import { livenessOf, thisProcess } from "../processes/process-identity.ts";
import { appendStaged } from "../staging/append-staged.ts";
import { fileSource, streamSource, type ByteSource } from "../staging/byte-source.ts";
import { writeStaged } from "../staging/write-staged.ts";
import { discardUpload, publishUpload, requireHere, type StagingTools } from "./stage-image.ts";
import { StagingLease } from "./staging-lease.ts";

/** An upload to begin that outlives its writers. */
export interface ResumableOrder extends ResumableKey {
  /** The number of its bytes. */
  readonly size: number;
  /** Kept and returned as it is. */
  readonly metadata: string;
  /** The import that begins when the upload is complete. Default: none. */
  readonly importAfter?: DirectUpload | undefined;
}

/** An upload that outlives its writers. */
export interface ResumableView {
  readonly image_id: string;
  readonly generation: string;
  readonly size: number;
  /** The bytes that are there: the next one to send. */
  readonly offset: number;
  readonly metadata: string;
  /** ISO 8601. Null: it is complete. */
  readonly expires_at: string | null;
}

/** The next bytes of an upload. */
export interface NextBytes {
  /** The position of the first one. */
  readonly offset: number;
  readonly bytes: Readable;
  /** Their number. Default: unknown. */
  readonly size?: number | undefined;
  /** They count only if they have this digest. Default: all that come count. */
  readonly checksum?: { readonly algo: "md5" | "sha1" | "sha256"; readonly digest: Buffer };
  readonly signal: AbortSignal;
}

// A writer whose bytes have stopped gives way at the second renewal after it was asked to.
const RENEW_EVERY_MS = 2_000;
const BUSY_PATIENCE_MS = 5_000;
const LOOK_EVERY_MS = 100;
const SYNC_EVERY_BYTES = 128 * 1024 * 1024;

/**
 * Begins an upload whose bytes come later. Until it expires it waits for them, without a process.
 *
 * @throws ImportError as `stageData`; `StagingBusy` if the image has one
 * @internal
 */
export async function beginUpload(
  tools: StagingTools,
  { imageId, generation, size, metadata, importAfter }: ResumableOrder,
): Promise<ResumableView> {
  const { database, staging, limits, timeToLiveMs } = tools;
  await staging.requireRoom(size);
  const attempt = {
    ...{ imageId, node: staging.node, token: randomUUID(), writer: await thisProcess() },
    ...{ part: newPartName(imageId, 0), path: staging.pathOf(imageId), sizeBytes: size },
    ...{ replace: false, directUpload: importAfter },
  };
  const before = await database.transaction((db) =>
    beginResumable(db, limits, attempt, { generation, metadata, timeToLiveMs }),
  );
  if (before !== undefined) await discardUpload(staging, before);
  return findUpload(tools, { imageId, generation });
}

/**
 * Finds an upload, and how far it came.
 *
 * @throws ImportError `ImportLost` if it is not there any more, `StagingUnavailable` if its bytes
 *   are on another staging volume
 * @internal
 */
export async function findUpload(tools: StagingTools, key: ResumableKey): Promise<ResumableView> {
  const row = await findHere(tools, key);
  if (row.state === "whole") return viewOf(row, row.resumable.lengthBytes);
  const { part, resumable } = row;
  const sizeBytes = part === null ? 0 : await tools.staging.partBytes(part);
  return viewOf(row, await trustedBytes(resumable, sizeBytes));
}

/** The generation of the upload of an image that is not complete; null: there is none. @internal */
export async function findIncomplete(
  { database }: StagingTools,
  imageId: string,
): Promise<string | null> {
  return database.query((db) => findGeneration(db, imageId));
}

async function findHere(
  { database, staging }: StagingTools,
  key: ResumableKey,
): Promise<ResumableRow> {
  const row = await database.query((db) => findResumable(db, key));
  requireHere(staging, row);
  return row;
}

function viewOf(
  { imageId, state, resumable, resumableUntil }: ResumableRow,
  offset: number,
): ResumableView {
  const { generation, lengthBytes, metadata } = resumable;
  return {
    ...{ image_id: imageId, generation, size: lengthBytes, offset, metadata },
    expires_at: state === "whole" ? null : resumableUntil.toISOString(),
  };
}

/**
 * Bytes that were written before the machine went down are safe only as far as they were synced,
 * and those whose checksum was not compared do not count. Neither does the last one until the
 * upload is complete: no client would go on with an upload whose writer died before that.
 */
async function trustedBytes(
  { bootId, syncedBytes, checkedBytes, lengthBytes }: ResumableRow["resumable"],
  sizeBytes: number,
): Promise<number> {
  const isSameBoot = bootId === (await thisProcess()).bootId;
  return Math.min(
    ...[sizeBytes, lengthBytes - 1, isSameBoot ? Infinity : syncedBytes],
    checkedBytes ?? Infinity,
  );
}

/**
 * Writes the next bytes of an upload; with the last one it is complete, as after `stageData`. What
 * was written before a failure or an abort stays. A writer before this one is waited for; it gives
 * way if its bytes have stopped.
 *
 * @throws ImportError `ImportLost` if the upload is not there any more, `StagingBusy` if another
 *   writer writes, `ImageConflict` for another offset, `ImageTooLarge`, `ChecksumMismatch`,
 *   `NoSpace`, `StagingUnavailable`; the signal's reason
 * @internal
 */
export async function continueUpload(
  tools: StagingTools,
  key: ResumableKey,
  next: NextBytes,
): Promise<ResumableView> {
  const found = await findHere(tools, key);
  requireFitting(found, next.offset + (next.size ?? 0));
  const held = await take(tools, key, next);
  if (held === undefined) return findUpload(tools, key);
  try {
    await new UploadWriter(tools, held, next).run();
  } catch (error) {
    // After a takeover, or the end of the upload, only this writer knows its part.
    const isOurs = await giveUp(tools, held).catch(() => undefined);
    if (isOurs === false) await tools.staging.discard({ part: held.part }).catch(() => undefined);
    // Says that the upload is gone, if it is.
    if (isOurs === false) await findHere(tools, key);
    throw error;
  }
  return findUpload(tools, key);
}

function requireFitting({ imageId, resumable }: ResumableRow, endBytes: number): void {
  const { lengthBytes } = resumable;
  if (endBytes <= lengthBytes) return;
  throw new ImportError(
    "ImageTooLarge",
    `The upload of image "${imageId}" has ${String(lengthBytes)} bytes, and more were sent`,
    { hint: "Begin another upload with the right length." },
  );
}

function requireOffset({ imageId }: ResumableKey, sent: number, expected: number): void {
  if (sent === expected) return;
  throw new ImportError(
    "ImageConflict",
    `The upload of image "${imageId}" goes on at byte ${String(expected)}, and not at ${String(sent)}`,
    { hint: "Ask for its offset (HEAD), and send the bytes from there." },
  );
}

/** An upload that this process writes. */
interface HeldUpload {
  readonly before: ResumableRow;
  readonly token: string;
  readonly part: string;
}

/** Takes the lease for a writer; undefined: the upload is complete, and nothing more is to come. */
async function take(
  tools: StagingTools,
  key: ResumableKey,
  { offset, signal }: NextBytes,
): Promise<HeldUpload | undefined> {
  const { database, staging } = tools;
  const { imageId } = key;
  const giveUpAtMs = Date.now() + BUSY_PATIENCE_MS;
  const holder = { node: staging.node, token: randomUUID(), writer: await thisProcess() };
  for (;;) {
    const before = await findHere(tools, key);
    if (before.state === "whole") {
      requireOffset(key, offset, before.resumable.lengthBytes);
      return undefined;
    }
    const part = await nextPart(before);
    if (part !== undefined) {
      const earlierParts = [...before.earlierParts, before.part].flatMap((name) =>
        name === null || name === part ? [] : [name],
      );
      const names = { part, path: before.path, earlierParts };
      const isTaken = await database.transaction((db) =>
        takeResumable(db, before, { ...holder, ...names }),
      );
      if (isTaken) return { before, token: holder.token, part };
      continue;
    }
    if (Date.now() > giveUpAtMs) {
      throw new ImportError(
        "StagingBusy",
        `Another request sends bytes of the upload of image "${imageId}" now`,
        { hint: "Wait for its end, and go on from the offset that the upload has then." },
      );
    }
    await database.query((db) => wantResumable(db, imageId, before.token));
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    signal.throwIfAborted();
  }
}

/**
 * The part in which a writer goes on; undefined while another one writes. A writer that may still
 * be alive keeps its part without a name: the bytes go on in a copy of it.
 */
async function nextPart({
  imageId,
  part,
  writer,
  resumable,
  isUnrenewed,
}: ResumableRow): Promise<string | undefined> {
  if (!resumable.isHeld || (await livenessOf(writer)) === "dead") {
    return part ?? newPartName(imageId, 0);
  }
  return isUnrenewed ? newPartName(imageId, 0) : undefined;
}

/**
 * Lets the next writer go on.
 *
 * @returns false if the upload has another writer, or is gone
 */
async function giveUp(
  { database, timeToLiveMs }: StagingTools,
  { before: { imageId }, token }: HeldUpload,
  facts: { readonly checkedBytes?: null } = {},
): Promise<boolean> {
  try {
    const released = { ...facts, isHeld: false };
    await database.query((db) => renewResumable(db, { imageId, token }, timeToLiveMs, released));
    return true;
  } catch (error) {
    if (error instanceof ImportError && error.code === "StagingBusy") return false;
    throw error;
  }
}

/** Writes the bytes of one request into the part of an upload. */
class UploadWriter {
  readonly #tools: StagingTools;
  readonly #held: HeldUpload;
  readonly #next: NextBytes;
  readonly #lease: StagingLease;
  readonly #zeroBlocks = new ZeroBlocks();
  #receivedBytes = 0;
  #seenBytes = -1;
  #isReceiving = false;
  #syncedBytes = 0;
  #writtenBytes = 0;

  constructor(tools: StagingTools, held: HeldUpload, next: NextBytes) {
    this.#tools = tools;
    this.#held = held;
    this.#next = next;
    this.#lease = new StagingLease(tools, held.before.imageId, held.token, {
      signal: next.signal,
      renewEveryMs: RENEW_EVERY_MS,
      renew: () => this.#renew(),
    });
  }

  async run(): Promise<void> {
    const { before, token, part } = this.#held;
    const { imageId, path } = before;
    const digests = await this.#lease.during((signal) => this.#write(signal));
    if (digests === undefined) {
      await this.#lease.patiently(() => giveUp(this.#tools, this.#held, { checkedBytes: null }));
      return;
    }
    const complete = { imageId, token, part, path, digests, zeroBlocks: this.#zeroBlocks };
    await publishUpload(this.#tools, this.#lease, complete);
  }

  /** @returns the digests of the upload if it is complete */
  async #write(signal: AbortSignal): Promise<Digests | undefined> {
    const { staging } = this.#tools;
    const { part } = this.#held;
    try {
      await this.#copyEarlierPart(signal);
      await using target = await staging.reopenPart(part);
      await this.#begin(target);
      try {
        return await this.#receive(target, signal);
      } catch (error) {
        // None of the bytes was compared with the checksum, or they differ.
        if (this.#next.checksum !== undefined) await target.truncate(this.#next.offset);
        throw error;
      }
    } catch (error) {
      throw systemFailure(error, `the staging area "${staging.root}"`, "StagingUnavailable");
    }
  }

  /** The writer of the earlier part may be alive: what it writes from here on does not count. */
  async #copyEarlierPart(signal: AbortSignal): Promise<void> {
    const { staging } = this.#tools;
    const { before, part } = this.#held;
    if (before.part === null || before.part === part) return;
    await using source = await staging.reopenPart(before.part);
    await using target = await staging.createPart(part);
    await appendStaged(fileSource(source), target, { startAt: 0, signal });
    for (const each of [...before.earlierParts, before.part]) await staging.discard({ part: each });
  }

  /** Makes sure that the bytes go on where the part ends. */
  async #begin(target: FileHandle): Promise<void> {
    const { imageId, resumable } = this.#held.before;
    const { offset, checksum } = this.#next;
    const trusted = await trustedBytes(resumable, (await target.stat()).size);
    requireOffset({ ...resumable, imageId }, offset, trusted);
    // Cut first: what is recorded holds for all bytes of the part.
    await target.truncate(offset);
    this.#syncedBytes = Math.min(resumable.syncedBytes, offset);
    const { bootId } = await thisProcess();
    const checkedBytes = checksum === undefined ? null : offset;
    await this.#record({ bootId, syncedBytes: this.#syncedBytes, checkedBytes });
  }

  async #receive(target: FileHandle, signal: AbortSignal): Promise<Digests | undefined> {
    const { staging, hashAlgo, bandwidthLimit } = this.#tools;
    const { lengthBytes } = this.#held.before.resumable;
    const { offset, size = lengthBytes - offset } = this.#next;
    const zeroBlocks = this.#zeroBlocks;
    this.#writtenBytes = offset;
    this.#isReceiving = true;
    const settings = {
      ...{ hashAlgo, signal, zeroBlocks, resumeAt: offset, startAt: offset },
      limiter: bandwidthLimit === undefined ? undefined : new BandwidthLimit(bandwidthLimit),
      sync: () => this.#sync(target),
      report: (doneBytes: number) => {
        this.#writtenBytes = doneBytes;
      },
    };
    const source = this.#source();
    // One request that brings all bytes digests them on the way.
    const isAll = offset === 0 && size === lengthBytes;
    const written = isAll ? await writeStaged(source, target, settings) : undefined;
    const endBytes = written?.sizeBytes ?? (await appendStaged(source, target, settings));
    this.#isReceiving = false;
    this.#writtenBytes = endBytes;
    if (endBytes < lengthBytes) {
      if (endBytes - this.#syncedBytes >= SYNC_EVERY_BYTES) await this.#sync(target);
      return undefined;
    }
    const nothing: ByteSource = { read: () => Promise.resolve(0) };
    const whole = { hashAlgo, signal, zeroBlocks, resumeAt: lengthBytes };
    const digests = written ?? (await writeStaged(nothing, target, whole));
    await staging.syncPart(target, this.#held.part);
    return digests;
  }

  /** The bytes of the request, compared with its checksum. */
  #source(): ByteSource {
    const { bytes, offset, checksum } = this.#next;
    const source = streamSource(bytes);
    const hash = checksum === undefined ? undefined : createHash(checksum.algo);
    let isChecked = checksum === undefined;
    return {
      ...source,
      read: async (buffer) => {
        const readBytes = await source.read(buffer);
        this.#receivedBytes += readBytes;
        requireFitting(this.#held.before, offset + this.#receivedBytes);
        if (isChecked) return readBytes;
        hash?.update(buffer.subarray(0, readBytes));
        if (readBytes > 0) return readBytes;
        isChecked = true;
        if (hash?.digest().equals(checksum?.digest ?? Buffer.alloc(0)) !== false) return 0;
        throw new ImportError("ChecksumMismatch", "The bytes do not have the checksum", {
          hint: "Send them again.",
        });
      },
    };
  }

  async #sync(target: FileHandle): Promise<void> {
    const syncedBytes = this.#writtenBytes;
    await this.#tools.staging.syncPart(target, this.#held.part);
    this.#syncedBytes = syncedBytes;
    // Goes on while the catalogue is unreachable; the lease says if it is lost.
    await this.#record({ syncedBytes }).catch(() => undefined);
  }

  /** @returns true if another request waits for the lease */
  async #record(facts: Parameters<typeof renewResumable>[3]): Promise<boolean> {
    const { before, token } = this.#held;
    const stager = { imageId: before.imageId, token };
    const { timeToLiveMs, database } = this.#tools;
    return (await database.query((db) => renewResumable(db, stager, timeToLiveMs, facts))).isWanted;
  }

  async #renew(): Promise<void> {
    const isSilent = this.#isReceiving && this.#receivedBytes === this.#seenBytes;
    this.#seenBytes = this.#receivedBytes;
    if ((await this.#record({})) && isSilent) {
      throw new ImportError(
        "StagingBusy",
        `Another request goes on with the upload of image "${this.#held.before.imageId}", and no bytes came here`,
      );
    }
  }
}

/**
 * Ends an upload, complete or not, that no import holds; the image is `queued` again.
 *
 * @throws ImportError `ImportLost` if it is not there any more, `ImageBusy`
 * @internal
 */
export async function endUpload(tools: StagingTools, key: ResumableKey): Promise<void> {
  await findHere(tools, key);
  const { database, staging } = tools;
  const taker = { token: randomUUID(), writer: await thisProcess() };
  const taken = await database.transaction((db) => takeResumableAway(db, key, taker));
  await discardUpload(staging, taken);
  await database.transaction((db) => dropStaging(db, key.imageId, taker.token));
}
