import { crc32c } from "./crc32c.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";

// MS-VHDX, 2.3: the log is a ring of sectors; an entry has a header, descriptors, and a data sector
// per data descriptor.
const SECTOR_BYTES = 4096;
const HEADER_BYTES = 64;
const DESCRIPTOR_BYTES = 32;

// A log that is longer than this is not read. Hyper-V's logs have only 1 MiB.
const MOST_LOG_BYTES = 64 * 1024 * 1024;

/** The place of a log in bytes, and the identity in its entries. */
export interface LogPlace {
  readonly position: number;
  readonly lengthBytes: number;
  readonly guid: Buffer;
}

/** A range of the file that the log would write. */
export interface LogWrite {
  readonly position: number;
  readonly lengthBytes: number;
  /** The bytes; undefined for zeros. */
  readonly data: Buffer | undefined;
}

/** The effect of a replay of the log on the file. */
export interface LogReplay {
  readonly entries: number;
  readonly writes: readonly LogWrite[];
  /** The length that the file must have already. */
  readonly flushedBytes: number;
  /** The length of the file after the replay. */
  readonly lastBytes: number;
}

/**
 * Reads the writes that a replay of the log would make. A program replays only the current entries;
 * this function takes every entry that has the identity of the log and a right checksum.
 *
 * @throws BrokenImage when the log is cut off, or too long
 */
export async function readLog(image: ImageBytes, place: LogPlace): Promise<LogReplay> {
  const { position, lengthBytes } = place;
  if (lengthBytes > MOST_LOG_BYTES) {
    throw new BrokenImage(
      `its vhdx log has ${lengthBytes} bytes, more than the allowed ${MOST_LOG_BYTES}`,
    );
  }
  const log = await image.read("vhdx log", position, lengthBytes);
  const replay = { entries: 0, writes: [] as LogWrite[], flushedBytes: 0, lastBytes: 0 };
  for (let at = 0; at + HEADER_BYTES <= log.length; at += SECTOR_BYTES) {
    const entry = entryAt(log, at, place.guid);
    if (entry === undefined) continue;
    replay.entries += 1;
    replay.flushedBytes = Math.max(replay.flushedBytes, Number(entry.readBigUInt64LE(48)));
    replay.lastBytes = Math.max(replay.lastBytes, Number(entry.readBigUInt64LE(56)));
    replay.writes.push(...writesOf(entry));
  }
  return replay;
}

/** The entry that begins here; it may continue at the start of the ring. */
function entryAt(log: Buffer, at: number, guid: Buffer): Buffer | undefined {
  const lengthBytes = log.readUInt32LE(at + 8);
  const isEntry =
    log.toString("latin1", at, at + 4) === "loge" &&
    log.subarray(at + 32, at + 48).equals(guid) &&
    lengthBytes > 0 &&
    lengthBytes <= log.length &&
    lengthBytes % SECTOR_BYTES === 0;
  if (!isEntry) return undefined;
  const tail = log.subarray(at, Math.min(at + lengthBytes, log.length));
  const entry = Buffer.concat([tail, log.subarray(0, lengthBytes - tail.length)]);
  const checksum = entry.readUInt32LE(4);
  entry.writeUInt32LE(0, 4);
  return crc32c(entry) === checksum ? entry : undefined;
}

function writesOf(entry: Buffer): LogWrite[] {
  const count = entry.readUInt32LE(24);
  const writes: LogWrite[] = [];
  let dataAt = Math.ceil((HEADER_BYTES + count * DESCRIPTOR_BYTES) / SECTOR_BYTES) * SECTOR_BYTES;
  for (let index = 0; index < count; index += 1) {
    const at = HEADER_BYTES + index * DESCRIPTOR_BYTES;
    if (at + DESCRIPTOR_BYTES > entry.length) break;
    const position = Number(entry.readBigUInt64LE(at + 16));
    const kind = entry.toString("latin1", at, at + 4);
    if (kind === "zero") {
      const lengthBytes = Number(entry.readBigUInt64LE(at + 8));
      writes.push({ position, lengthBytes, data: undefined });
    }
    if (kind !== "desc") continue;
    // The first 8 bytes and the last 4 are in the descriptor: in the data sector, marks take their
    // places.
    const data = Buffer.concat([
      entry.subarray(at + 8, at + 16),
      entry.subarray(dataAt + 8, dataAt + SECTOR_BYTES - 4),
      entry.subarray(at + 4, at + 8),
    ]);
    writes.push({ position, lengthBytes: SECTOR_BYTES, data });
    dataAt += SECTOR_BYTES;
  }
  return writes;
}
