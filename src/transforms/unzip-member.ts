import { crc32 } from "node:zlib";
import type { ChunkReader } from "./chunk-reader.ts";
import { damaged, inflateRaw } from "./inflate.ts";

// Offsets and numbers of PKWARE's APPNOTE.TXT 6.3.10; little-endian.
const LOCAL_HEADER = 0x0403_4b50;
const DATA_DESCRIPTOR = 0x0807_4b50;
const DIRECTORY_ENTRY = 0x0201_4b50;
const ZIP64_END = 0x0606_4b50;
const ZIP64_LOCATOR = 0x0706_4b50;
const END = 0x0605_4b50;

const ENCRYPTED = 1 << 0;
const HAS_DESCRIPTOR = 1 << 3;
const STORED = 0;
const DEFLATED = 8;
const AES = 99;
const ZIP64_FIELD = 0x0001;
const IN_ZIP64_FIELD = 0xffff_ffff;

/** The member, by a header or by its bytes. Sizes are in bytes. */
interface Member {
  readonly crc: number;
  readonly compressedBytes: bigint;
  readonly sizeBytes: bigint;
}

interface LocalHeader extends Member {
  readonly method: number;
  readonly hasDescriptor: boolean;
}

/**
 * The bytes of the only member of a zip archive, stored or deflated. The archive is read once from
 * start to end while it comes, and every byte of it must have its place in the format: no bytes may
 * be hidden between, before or after its parts. The name of the member is ignored.
 *
 * @throws ImportError `DecompressionFailed` when it has several members, is encrypted, damaged, cut
 *   off or followed by other bytes, or when its headers differ from its content
 */
export async function* unzipMember(reader: ChunkReader): AsyncGenerator<Buffer> {
  const header = await readLocalHeader(reader);
  const startAt = reader.takenBytes;
  let crc = 0;
  let sizeBytes = 0;
  const bytes = header.method === STORED ? stored(reader, header) : inflateRaw(reader);
  for await (const chunk of bytes) {
    crc = crc32(chunk, crc);
    sizeBytes += chunk.length;
    yield chunk;
  }
  const compressedBytes = BigInt(reader.takenBytes - startAt);
  const member = { crc, compressedBytes, sizeBytes: BigInt(sizeBytes) };
  if (header.hasDescriptor) await readDescriptor(reader, member);
  else assertSame("local header", header, member);
  await readDirectory(reader, member, header.method);
}

async function readLocalHeader(reader: ChunkReader): Promise<LocalHeader> {
  const header = await reader.read(30);
  if (header.readUInt32LE(0) !== LOCAL_HEADER) throw damaged("it is not a zip archive");
  const flags = header.readUInt16LE(6);
  const method = header.readUInt16LE(8);
  if ((flags & ENCRYPTED) !== 0 || method === AES) throw damaged("the zip archive is encrypted");
  if (method !== STORED && method !== DEFLATED) {
    throw damaged(
      `the member of the zip archive is compressed by method ${method}; only 0 and 8 are supported`,
    );
  }
  const hasDescriptor = (flags & HAS_DESCRIPTOR) !== 0;
  const name = await reader.read(header.readUInt16LE(26));
  if (name.at(-1) === "/".charCodeAt(0)) throw damaged("the zip archive begins with a directory");
  const extra = await reader.read(header.readUInt16LE(28));
  const [sizeBytes = 0n, compressedBytes = 0n] = wideFields(extra, [
    header.readUInt32LE(22),
    header.readUInt32LE(18),
  ]);
  return { method, hasDescriptor, crc: header.readUInt32LE(14), sizeBytes, compressedBytes };
}

async function* stored(
  reader: ChunkReader,
  { compressedBytes }: LocalHeader,
): AsyncGenerator<Buffer> {
  for (let left = compressedBytes; left > 0n;) {
    const chunk = await reader.next();
    if (chunk === undefined) throw damaged(`it ends ${String(left)} bytes too early`);
    const wanted = chunk.subarray(0, Number(left < BigInt(chunk.length) ? left : chunk.length));
    reader.unread(chunk.subarray(wanted.length));
    yield wanted;
    left -= BigInt(wanted.length);
  }
}

/**
 * Reads the descriptor after a member whose header was written before its size was known. It has a
 * mark or none, and sizes of 4 or 8 bytes; no earlier byte shows for certain which. The directory
 * must follow.
 */
async function readDescriptor(reader: ChunkReader, member: Member): Promise<void> {
  const ahead = await reader.peek(28);
  for (const form of descriptorForms(member)) {
    const found = ahead.subarray(0, form.length + 4);
    if (!found.equals(Buffer.concat([form, numbers(DIRECTORY_ENTRY)]))) continue;
    await reader.read(form.length);
    return;
  }
  const isNextMember = [0, 12, 16, 20, 24].some(
    (at) => ahead.length >= at + 4 && ahead.readUInt32LE(at) === LOCAL_HEADER,
  );
  if (isNextMember) throw severalMembers();
  throw damaged("the checksum or the sizes of the zip archive's member are wrong or missing");
}

function descriptorForms({ crc, sizeBytes, compressedBytes }: Member): readonly Buffer[] {
  const sizes = Buffer.alloc(16);
  sizes.writeBigUInt64LE(compressedBytes, 0);
  sizes.writeBigUInt64LE(sizeBytes, 8);
  const short = numbers(
    Number(compressedBytes & BigInt(IN_ZIP64_FIELD)),
    Number(sizeBytes & BigInt(IN_ZIP64_FIELD)),
  );
  return [short, sizes].flatMap((each) => [
    Buffer.concat([numbers(DATA_DESCRIPTOR, crc), each]),
    Buffer.concat([numbers(crc), each]),
  ]);
}

async function readDirectory(reader: ChunkReader, member: Member, method: number): Promise<void> {
  const directoryAt = reader.takenBytes;
  const entry = await reader.read(46);
  const mark = entry.readUInt32LE(0);
  if (mark === LOCAL_HEADER) throw severalMembers();
  if (mark !== DIRECTORY_ENTRY) throw damaged("the zip archive's directory is missing");
  await reader.read(entry.readUInt16LE(28));
  const extra = await reader.read(entry.readUInt16LE(30));
  await reader.read(entry.readUInt16LE(32));
  const [sizeBytes = 0n, compressedBytes = 0n, offset = 0n] = wideFields(extra, [
    entry.readUInt32LE(24),
    entry.readUInt32LE(20),
    entry.readUInt32LE(42),
  ]);
  const stated = { crc: entry.readUInt32LE(16), sizeBytes, compressedBytes };
  assertSame("directory", stated, member);
  if (offset !== 0n || entry.readUInt16LE(10) !== method) {
    throw damaged("the zip archive's directory leads to another member");
  }
  await readEnd(reader, directoryAt);
}

async function readEnd(reader: ChunkReader, directoryAt: number): Promise<void> {
  const directoryBytes = reader.takenBytes - directoryAt;
  let mark = (await reader.peek(4)).toString("latin1");
  if (mark === numbers(DIRECTORY_ENTRY).toString("latin1")) throw severalMembers();
  if (mark === numbers(ZIP64_END).toString("latin1")) {
    const { length } = await reader.read(12).then(async (start) => {
      // Its fields, and those that a later version of the format may add.
      const bytes = Number(start.readBigUInt64LE(4));
      if (bytes > 65_536) throw damaged("the end of the zip archive is invalid");
      return reader.read(bytes);
    });
    const locator = await reader.read(20);
    if (length < 44 || locator.readUInt32LE(0) !== ZIP64_LOCATOR) {
      throw damaged("the end of the zip archive is invalid");
    }
    mark = (await reader.peek(4)).toString("latin1");
  }
  const end = await reader.read(22);
  const stated = [end.readUInt16LE(10), end.readUInt32LE(12), end.readUInt32LE(16)];
  // A field is all ones if its number is too wide, or is stated in the zip64 fields.
  const isRight =
    end.readUInt32LE(0) === END &&
    [1, 0xffff].includes(stated[0] ?? 0) &&
    [directoryBytes, IN_ZIP64_FIELD].includes(stated[1] ?? 0) &&
    [directoryAt, IN_ZIP64_FIELD].includes(stated[2] ?? 0);
  if (!isRight) throw damaged("the end of the zip archive is invalid");
  await reader.read(end.readUInt16LE(20));
  if ((await reader.peek(1)).length > 0) {
    throw damaged(`other bytes follow its end, at byte ${reader.takenBytes}`);
  }
}

/**
 * The values of fields of 4 bytes. The value of a field that is all ones has 8 bytes in the zip64
 * field, in the same order.
 */
function wideFields(extra: Buffer, fields: readonly number[]): readonly bigint[] {
  const zip64 = fieldOf(extra, ZIP64_FIELD);
  let at = 0;
  return fields.map((field) => {
    if (field !== IN_ZIP64_FIELD || zip64 === undefined) return BigInt(field);
    if (zip64.length < at + 8) throw damaged("the zip64 field of the archive is cut off");
    at += 8;
    return zip64.readBigUInt64LE(at - 8);
  });
}

function fieldOf(extra: Buffer, id: number): Buffer | undefined {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    const lengthBytes = extra.readUInt16LE(at + 2);
    if (extra.readUInt16LE(at) === id) return extra.subarray(at + 4, at + 4 + lengthBytes);
  }
  return undefined;
}

function assertSame(where: string, stated: Member, actual: Member): void {
  if (stated.crc !== actual.crc) {
    throw damaged(`the zip archive's ${where} states a crc32 that is not that of its member`);
  }
  const isSame =
    stated.sizeBytes === actual.sizeBytes && stated.compressedBytes === actual.compressedBytes;
  if (!isSame) {
    throw damaged(`the zip archive's ${where} states sizes that are not those of its member`);
  }
}

function severalMembers(): Error {
  return damaged("the zip archive has more than one member");
}

function numbers(...values: readonly number[]): Buffer {
  const buffer = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) buffer.writeUInt32LE(value, index * 4);
  return buffer;
}
