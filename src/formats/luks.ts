import { DataEnd } from "./data-end.ts";
import { cutOff, type Detector, type Examination, type Finding } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";
import { readLuks2Header, type Luks2Header } from "./luks2-header.ts";

const MAGIC = Buffer.from("LUKS\xba\xbe", "latin1");

// The LUKS on-disk format, version 1; big-endian.
const VERSION_AT = 6;
const PAYLOAD_SECTOR_AT = 104;
const KEY_BYTES_AT = 108;
const DIGEST_ITERATIONS_AT = 164;
const SLOTS = {
  at: 208,
  count: 8,
  bytes: 48,
  active: 0x00ac71f3,
  iterationsAt: 4,
  sectorAt: 40,
  stripesAt: 44,
};
const HEADER_BYTES = 592;
const SECTOR_BYTES = 512;

// Every program that tries a passphrase computes all iterations. The bound is that of Nova.
const MOST_ITERATIONS = 12_000_000;

/** An encrypted disk. Only its header can be judged. */
export const luks: Detector = {
  format: "luks",
  matches: ({ first }) => first.subarray(0, MAGIC.length).equals(MAGIC),
  examine: async (image) => {
    const version = (await image.read("luks header", VERSION_AT, 2)).readUInt16BE();
    if (version === 1) return examine1(image);
    if (version === 2) return examine2(image);
    return { virtualSizeBytes: null, checks: { version: `it is a luks of version ${version}` } };
  },
};

/** A part of the container that holds data of the disk. */
interface Segment {
  readonly offset: bigint;
  /** In bytes; `dynamic` reaches to the end of the file. */
  readonly size: bigint | "dynamic";
  readonly sectorBytes: number;
}

async function examine1(image: ImageBytes): Promise<Examination> {
  const header = await image.read("luks1 header", 0, HEADER_BYTES);
  const end = new DataEnd(image);
  const slots = Array.from({ length: SLOTS.count }, (_, index) =>
    header.subarray(SLOTS.at + index * SLOTS.bytes, SLOTS.at + (index + 1) * SLOTS.bytes),
  ).filter((slot) => slot.readUInt32BE(0) === SLOTS.active);
  for (const slot of slots) {
    const keyBytes = header.readUInt32BE(KEY_BYTES_AT) * slot.readUInt32BE(SLOTS.stripesAt);
    end.reach("luks1 key slot", slot.readUInt32BE(SLOTS.sectorAt) * SECTOR_BYTES + keyBytes);
  }
  const payload: Segment = {
    offset: BigInt(header.readUInt32BE(PAYLOAD_SECTOR_AT)) * BigInt(SECTOR_BYTES),
    size: "dynamic",
    sectorBytes: SECTOR_BYTES,
  };
  const problem = dataProblem("luks1", [payload], end, image.sizeBytes);
  return {
    virtualSizeBytes: problem === undefined ? diskBytes([payload], image.sizeBytes) : null,
    checks: {
      encryption: { reason: "it is encrypted by luks1", encryption: "luks1" },
      complete: problem,
      iterations: iterationsProblem([
        header.readUInt32BE(DIGEST_ITERATIONS_AT),
        ...slots.map((slot) => slot.readUInt32BE(SLOTS.iterationsAt)),
      ]),
    },
  };
}

async function examine2(image: ImageBytes): Promise<Examination> {
  const header = await readLuks2Header(image);
  const end = new DataEnd(image);
  end.reach("copy of the luks2 header", 2 * header.copyBytes);
  const slots = Object.values(header.keyslots);
  for (const { area } of slots) end.reach("luks2 key slot", Number(area.offset + area.size));
  const segments = segmentsOf(header);
  const problem = dataProblem("luks2", segments, end, image.sizeBytes);
  // Integrity tags of its sectors take room between the data. The header does not state how much.
  const isTagged = Object.values(header.segments).some(({ integrity }) => integrity !== undefined);
  return {
    virtualSizeBytes:
      problem === undefined && !isTagged ? diskBytes(segments, image.sizeBytes) : null,
    checks: {
      encryption: { reason: "it is encrypted by luks2", encryption: "luks2" },
      complete: problem,
      iterations: iterationsProblem(
        [...slots.map(({ kdf }) => kdf), ...Object.values(header.digests)].map(
          (hashing) => hashing?.iterations ?? 0,
        ),
      ),
    },
  };
}

/**
 * The segments of the disk. A segment that only describes the disk before or after a change of its
 * key has no data of its own.
 */
function segmentsOf({ segments }: Luks2Header): readonly Segment[] {
  return Object.values(segments)
    .filter(({ flags }) => !flags.some((flag) => flag.startsWith("backup-")))
    .map(({ offset, size, sector_size: sectorBytes }) => ({ offset, size, sectorBytes }));
}

function dataProblem(
  kind: string,
  segments: readonly Segment[],
  end: DataEnd,
  sizeBytes: number,
): Finding | undefined {
  if (segments.length === 0 || segments.some(({ offset }) => offset === 0n)) {
    return {
      reason: `it is a detached ${kind} header: the encrypted data is in another file or device`,
      hint: "Supply header and data in one file: decrypt the disk, or write its data into a container that has its header at the start.",
    };
  }
  for (const { offset, size } of segments) {
    if (size !== "dynamic") end.reach(`${kind} segment`, Number(offset + size));
  }
  if (end.problem !== undefined) return end.problem;
  const dynamic = segments.find(({ size }) => size === "dynamic");
  if (dynamic === undefined) return undefined;
  const dataBytes = BigInt(sizeBytes) - dynamic.offset;
  if (dataBytes <= 0n) {
    return cutOff(
      `it holds a ${kind} header and no data: its data begins at byte ${dynamic.offset}, but the file ends at byte ${sizeBytes}`,
    );
  }
  if (dataBytes % BigInt(dynamic.sectorBytes) === 0n) return undefined;
  return cutOff(
    `it is cut off: its ${kind} data has sectors of ${dynamic.sectorBytes} bytes from byte ${dynamic.offset} on, but the file ends inside one at byte ${sizeBytes}`,
  );
}

function diskBytes(segments: readonly Segment[], sizeBytes: number): bigint {
  return segments.reduce(
    (sum, { offset, size }) => sum + (size === "dynamic" ? BigInt(sizeBytes) - offset : size),
    0n,
  );
}

function iterationsProblem(all: readonly number[]): string | undefined {
  const most = Math.max(...all);
  if (most <= MOST_ITERATIONS) return undefined;
  return `its luks header requires ${most} iterations, more than the allowed ${MOST_ITERATIONS}`;
}
