import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { Readable } from "node:stream";
import { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { fingerprintOf, type Fingerprint } from "../bytes/fingerprint.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { ZeroBlocks } from "../bytes/zero-blocks.ts";
import { forgetEarlierParts, renewResumable, type ResumableRow } from "../db/resumable-records.ts";
import type { UploadSource } from "../db/schema.ts";
import type { Digests } from "../domain/digests.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ResumableKey } from "../domain/resumable-key.ts";
import { thisProcess } from "../processes/process-identity.ts";
import { appendStaged } from "../staging/append-staged.ts";
import { streamSource, type ByteSource } from "../staging/byte-source.ts";
import { copyPart } from "../staging/copy-part.ts";
import { writeStaged } from "../staging/write-staged.ts";
import { publishUpload, type StagingTools } from "./stage-image.ts";
import { StagingLease } from "./staging-lease.ts";
import { giveUp, type HeldUpload } from "./take-upload.ts";
import { countBytes, findBytes } from "./uploaded-bytes.ts";

// A writer whose bytes have stopped gives way at the second renewal after another request asked
// for the lease, or at the first one.
const RENEW_EVERY_MS = 2_000;

/** The next bytes of an upload. */
export interface NextBytes {
  /** The position of the first one. */
  readonly offset: number;
  readonly bytes: Readable;
  /** Their number. Default: unknown. */
  readonly size?: number | undefined;
  /** The digest that the bytes must have to be kept. Default: none, all that arrive are kept. */
  readonly checksum?: { readonly algo: "md5" | "sha1" | "sha256"; readonly digest: Buffer };
  readonly signal: AbortSignal;
}

/** Refuses bytes behind the end of the upload. @throws ImportError `ImageTooLarge` @internal */
export function requireFitting({ imageId, resumable }: ResumableRow, endBytes: number): void {
  const { lengthBytes } = resumable;
  if (endBytes <= lengthBytes) return;
  throw new ImportError(
    "ImageTooLarge",
    `The upload of image "${imageId}" has ${String(lengthBytes)} bytes, and more were sent`,
    { hint: "Begin another upload with the right length." },
  );
}

/** Refuses bytes for another position. @throws ImportError `ImageConflict` @internal */
export function requireOffset({ imageId }: ResumableKey, sent: number, expected: number): void {
  if (sent === expected) return;
  throw new ImportError(
    "ImageConflict",
    `Cannot write byte ${String(sent)} of the upload of image "${imageId}": its next byte is ${String(expected)}`,
    { hint: "Ask for its offset (HEAD), and send the bytes from there." },
  );
}

/** Writes the bytes of one request into the part of an upload. @internal */
export class UploadWriter {
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
  #complete: Fingerprint | null = null;

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
    // If this process dies, the next writer finds the file by its fingerprint (`complete`).
    const { lengthBytes } = before.resumable;
    const facts = { complete: this.#complete, syncedBytes: lengthBytes, checkedBytes: null };
    await this.#recordPatiently(facts);
    const complete = { imageId, token, part, path, digests, zeroBlocks: this.#zeroBlocks };
    await publishUpload(this.#tools, this.#lease, complete);
  }

  /** @returns the digests of the upload if it is complete */
  async #write(signal: AbortSignal): Promise<Digests | undefined> {
    const { staging } = this.#tools;
    const { part } = this.#held;
    try {
      await this.#prepare(signal);
      await using target = await staging.reopenPart(part);
      await this.#begin(target);
      try {
        return await this.#receive(target, signal);
      } catch (error) {
        // The checksum was not compared yet, or differs: keep none of the bytes.
        if (this.#next.checksum !== undefined) await target.truncate(this.#next.offset);
        // A process on another host counts only bytes that are synced.
        else if (this.#writtenBytes > this.#syncedBytes) await this.#sync(target);
        throw error;
      }
    } catch (error) {
      throw systemFailure(error, `the staging area "${staging.root}"`, "StagingUnavailable");
    }
  }

  /** Makes sure that the part has all bytes that count, and that the request continues there. */
  async #prepare(signal: AbortSignal): Promise<void> {
    const { staging } = this.#tools;
    const { before, part, source } = this.#held;
    const { imageId, path, resumable } = before;
    const row = { ...before, resumable: { ...resumable, source } };
    const bytes = await findBytes(staging, row);
    const startBytes = await countBytes(row, bytes);
    this.#syncedBytes = Math.min(resumable.syncedBytes, startBytes);
    // Checked before the copy, which may take long.
    requireOffset({ ...resumable, imageId }, this.#next.offset, startBytes);
    if (source !== null) await this.#copy(source, startBytes, signal);
    else if (bytes?.isPublished === true) await staging.unpublish(path, part);
    await this.#discardEarlier();
  }

  /**
   * Copies the part of an earlier writer, which may be alive. Bytes that the earlier writer adds
   * from now on do not count.
   */
  async #copy(source: UploadSource, lengthBytes: number, signal: AbortSignal): Promise<void> {
    const { staging } = this.#tools;
    const { part } = this.#held;
    const { bootId } = await thisProcess();
    await using target = await staging.reopenPart(part);
    // Bytes of the copy from before a restart of the machine may be lost.
    if (source.bootId !== bootId) await target.truncate(0);
    await this.#recordPatiently({ source: { ...source, lengthBytes, bootId } });
    if (lengthBytes > 0) {
      await using from = await this.#openSource(source);
      const sync = () => staging.syncPart(target, part);
      await copyPart(from, target, lengthBytes, { signal, sync });
    }
    await staging.syncPart(target, part);
    this.#syncedBytes = lengthBytes;
    await this.#recordPatiently({ source: null, bootId, syncedBytes: lengthBytes });
  }

  /** Opens the bytes to copy. Their writer may have published them before it stood still. */
  async #openSource({ part }: UploadSource): Promise<FileHandle> {
    const { staging } = this.#tools;
    if ((await staging.partBytes(part)) !== undefined) return staging.openPart(part);
    return (await staging.openStaged(this.#held.before.imageId)).handle;
  }

  async #discardEarlier(): Promise<void> {
    const { staging, database } = this.#tools;
    const { before, token, earlierParts } = this.#held;
    if (earlierParts.length === 0) return;
    for (const part of earlierParts) await staging.discard({ part });
    await database.query((db) => forgetEarlierParts(db, { imageId: before.imageId, token }));
  }

  /** Makes the part end where the bytes continue. */
  async #begin(target: FileHandle): Promise<void> {
    const { imageId, resumable } = this.#held.before;
    const { offset, checksum } = this.#next;
    const { size } = await target.stat();
    requireOffset({ ...resumable, imageId }, offset, Math.min(size, offset));
    // Cut before the record below, which is about all bytes of the part.
    await target.truncate(offset);
    const { bootId } = await thisProcess();
    const checkedBytes = checksum === undefined ? null : offset;
    const syncedBytes = this.#syncedBytes;
    await this.#recordPatiently({ bootId, syncedBytes, checkedBytes, complete: null });
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
      // The offset of the answer must survive a crash of the machine.
      await this.#sync(target);
      return undefined;
    }
    const nothing: ByteSource = { read: () => Promise.resolve(0) };
    const whole = { hashAlgo, signal, zeroBlocks, resumeAt: lengthBytes };
    const digests = written ?? (await writeStaged(nothing, target, whole));
    await staging.syncPart(target, this.#held.part);
    this.#complete = await fingerprintOf(target);
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
    // The last block that was counted may be one whose write failed.
    const syncedBytes = Math.min(this.#writtenBytes, (await target.stat()).size);
    await this.#tools.staging.syncPart(target, this.#held.part);
    this.#syncedBytes = syncedBytes;
    // The upload continues while the catalogue is unreachable. The renewal notices a lost lease.
    await this.#record({ syncedBytes }).catch(() => undefined);
  }

  async #recordPatiently(facts: Parameters<typeof renewResumable>[3]): Promise<void> {
    await this.#lease.patiently(() => this.#record(facts));
  }

  /** @returns true if another request waits for the lease */
  async #record(facts: Parameters<typeof renewResumable>[3]): Promise<boolean> {
    const { before, token } = this.#held;
    const stager = { imageId: before.imageId, token };
    const { timeToLiveMs, database } = this.#tools;
    return (await database.renewal((db) => renewResumable(db, stager, timeToLiveMs, facts)))
      .isWanted;
  }

  async #renew(): Promise<void> {
    const isSilent = this.#isReceiving && this.#receivedBytes === this.#seenBytes;
    this.#seenBytes = this.#receivedBytes;
    if ((await this.#record({})) && isSilent) {
      throw new ImportError(
        "StagingBusy",
        `Another request continues the upload of image "${this.#held.before.imageId}": this one has stopped sending bytes`,
      );
    }
  }
}
