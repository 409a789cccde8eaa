import type { Detector, Examination, Finding } from "./detector.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";
import { protocolProblem } from "./protocol-strings.ts";
import { extensionsOf, EXTENSION, type Extensions } from "./qcow2-extensions.ts";
import { walkTables, type Qcow2Layout } from "./qcow2-tables.ts";

const MAGIC = Buffer.from("QFI\xfb", "latin1");

// Offsets of docs/interop/qcow2.txt in QEMU's sources; big-endian.
const VERSION_AT = 4;
const BACKING_FILE_OFFSET_AT = 8;
const BACKING_FILE_SIZE_AT = 16;
const CLUSTER_BITS_AT = 20;
const SIZE_AT = 24;
const CRYPT_METHOD_AT = 32;
const L1_SIZE_AT = 36;
const L1_OFFSET_AT = 40;
const REFCOUNT_TABLE_OFFSET_AT = 48;
const REFCOUNT_TABLE_CLUSTERS_AT = 56;
const SNAPSHOTS_AT = 60;
const SNAPSHOTS_OFFSET_AT = 64;
const INCOMPATIBLE_FEATURES_AT = 72;
const AUTOCLEAR_FEATURES_AT = 88;
const REFCOUNT_ORDER_AT = 96;
const HEADER_LENGTH_AT = 100;
const COMPRESSION_TYPE_AT = 104;
const V2_BYTES = 72;
const V3_BYTES = 104;

const DIRTY = 1n << 0n;
const CORRUPT = 1n << 1n;
const EXTERNAL_DATA_FILE = 1n << 2n;
const COMPRESSION_TYPE = 1n << 3n;
const EXTENDED_L2 = 1n << 4n;
const KNOWN_FEATURES = DIRTY | CORRUPT | EXTERNAL_DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2;
/** An auto-clear feature: programs that do not know the feature clear its bit. */
const BITMAPS = 1n << 0n;

// The lengths of two extensions.
const CRYPTO_BYTES = 16;
const BITMAPS_BYTES = 24;

// QEMU's own bounds (block/qcow2.h).
const CLUSTER_BITS = { least: 9, most: 21 };
const MOST_L1_BYTES = 32 * 1024 * 1024;
const MOST_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024;
const MOST_REFCOUNT_ORDER = 6;
const MOST_SNAPSHOTS = 65536;
const MOST_BITMAPS = 65535;
/** With fewer, a subcluster would be smaller than a sector. */
const LEAST_BITS_OF_EXTENDED = 14;

const LUKS = 2;

/** QEMU's own format, versions 2 and 3. */
export const qcow2: Detector = {
  format: "qcow2",
  matches: ({ first }) => first.subarray(0, MAGIC.length).equals(MAGIC),
  examine: async (image) => {
    const header = await readHeader(image);
    const clusterBits = header.fixed.readUInt32BE(CLUSTER_BITS_AT);
    if (clusterBits < CLUSTER_BITS.least || clusterBits > CLUSTER_BITS.most) {
      throw new BrokenImage(`its qcow2 header states clusters of 2^${clusterBits} bytes`);
    }
    if (header.whole.length > 2 ** clusterBits) {
      throw new BrokenImage("its qcow2 header is longer than a cluster");
    }
    return examineHeader(image, header, clusterBits);
  },
};

interface Header {
  readonly version: number;
  /** The 72 bytes that all versions have. */
  readonly fixed: Buffer;
  /** The complete header, of the length that it states. */
  readonly whole: Buffer;
  readonly features: bigint;
}

async function readHeader(image: ImageBytes): Promise<Header> {
  const version = (await image.read("qcow2 header", VERSION_AT, 4)).readUInt32BE();
  if (version !== 2 && version !== 3) {
    throw new BrokenImage(`it is a qcow of version ${version}; only 2 and 3 are supported`);
  }
  const fixed = await image.read("qcow2 header", 0, version === 2 ? V2_BYTES : V3_BYTES);
  if (version === 2) return { version, fixed, whole: fixed, features: 0n };
  const lengthBytes = fixed.readUInt32BE(HEADER_LENGTH_AT);
  if (lengthBytes < V3_BYTES || lengthBytes % 8 !== 0 || lengthBytes > image.first.length) {
    throw new BrokenImage(`its qcow2 header states a length of ${lengthBytes} bytes`);
  }
  const whole = await image.read("qcow2 header", 0, lengthBytes);
  return { version, fixed, whole, features: fixed.readBigUInt64BE(INCOMPATIBLE_FEATURES_AT) };
}

async function examineHeader(
  image: ImageBytes,
  header: Header,
  clusterBits: number,
): Promise<Examination> {
  const { fixed, whole, features } = header;
  const clusterBytes = 2 ** clusterBits;
  const { extensions, problem } = extensionsOf(image, whole.length, clusterBytes);
  const hasBackingFile =
    fixed.readBigUInt64BE(BACKING_FILE_OFFSET_AT) !== 0n ||
    fixed.readUInt32BE(BACKING_FILE_SIZE_AT) !== 0;
  const hasDataFile = (features & EXTERNAL_DATA_FILE) !== 0n || extensions.has(EXTENSION.dataFile);
  const sizeBytes = fixed.readBigUInt64BE(SIZE_AT);
  const method = fixed.readUInt32BE(CRYPT_METHOD_AT);
  const headerExtensions = problem ?? extensionsProblem(extensions, method, clusterBytes);
  const tables = tablesProblem(fixed, clusterBits);
  // The data of an image with an external data file is elsewhere.
  const isReadable = tables === undefined && headerExtensions === undefined && !hasDataFile;
  const walk = isReadable
    ? await walkTables(image, layoutOf(header, clusterBits, extensions))
    : { tables, complete: undefined };
  return {
    // A guest sees whole sectors.
    virtualSizeBytes: sizeBytes - (sizeBytes % 512n),
    checks: {
      // Each of the two makes a program that opens the image read another file of the host, whose
      // name the image chooses.
      backing_file: hasBackingFile
        ? "it is a qcow2 overlay that refers to a backing file"
        : undefined,
      data_file: hasDataFile ? "it is a qcow2 with an external data file" : undefined,
      unknown_features: unknownFeaturesProblem(header),
      corrupt: (features & CORRUPT) === 0n ? undefined : "its qcow2 header is marked corrupt",
      dirty:
        (features & DIRTY) === 0n
          ? undefined
          : "its qcow2 header is marked dirty: its last writer did not close it",
      encryption: encryptionProblem(method),
      snapshots: snapshotsProblem(fixed.readUInt32BE(SNAPSHOTS_AT)),
      header_extensions: headerExtensions,
      ...walk,
      protocols: protocolProblem(
        "qcow2 header",
        image.first.toString("latin1", 0, Math.min(clusterBytes, image.first.length)),
      ),
    },
  };
}

function extensionsProblem(
  extensions: Extensions["extensions"],
  method: number,
  clusterBytes: number,
): string | undefined {
  const crypto = extensions.get(EXTENSION.crypto);
  if ((crypto === undefined) === (method === LUKS)) {
    return method === LUKS
      ? "it is a qcow2 encrypted by LUKS without a LUKS header"
      : "it is a qcow2 with a LUKS header that is not encrypted by LUKS";
  }
  if (crypto !== undefined && !isAligned(crypto, clusterBytes, CRYPTO_BYTES)) {
    return "the LUKS header of its qcow2 does not begin at a cluster";
  }
  const bitmaps = extensions.get(EXTENSION.bitmaps);
  if (bitmaps === undefined) return undefined;
  const count = bitmaps.length === BITMAPS_BYTES ? bitmaps.readUInt32BE(0) : 0;
  const isSound = count > 0 && count <= MOST_BITMAPS && bitmaps.readUInt32BE(4) === 0;
  return isSound ? undefined : "the bitmaps extension of its qcow2 header is invalid";
}

function isAligned(extension: Buffer, clusterBytes: number, lengthBytes: number): boolean {
  return (
    extension.length === lengthBytes && extension.readBigUInt64BE(0) % BigInt(clusterBytes) === 0n
  );
}

/** The tables by the header and its extensions, which must be valid. */
function layoutOf(
  { fixed, features }: Header,
  clusterBits: number,
  extensions: Extensions["extensions"],
): Qcow2Layout {
  const crypto = extensions.get(EXTENSION.crypto);
  const bitmaps = extensions.get(EXTENSION.bitmaps);
  const hasBitmaps =
    fixed.length >= V3_BYTES && (fixed.readBigUInt64BE(AUTOCLEAR_FEATURES_AT) & BITMAPS) !== 0n;
  return {
    clusterBits,
    sizeBytes: Number(fixed.readBigUInt64BE(SIZE_AT)),
    extendsL2: (features & EXTENDED_L2) !== 0n,
    compression: (features & COMPRESSION_TYPE) === 0n ? "deflate" : "zstd",
    l1: {
      position: Number(fixed.readBigUInt64BE(L1_OFFSET_AT)),
      entries: fixed.readUInt32BE(L1_SIZE_AT),
    },
    refcountTable: {
      position: Number(fixed.readBigUInt64BE(REFCOUNT_TABLE_OFFSET_AT)),
      lengthBytes: fixed.readUInt32BE(REFCOUNT_TABLE_CLUSTERS_AT) * 2 ** clusterBits,
    },
    snapshots: {
      position: Number(fixed.readBigUInt64BE(SNAPSHOTS_OFFSET_AT)),
      entries: fixed.readUInt32BE(SNAPSHOTS_AT),
    },
    cryptoHeader:
      crypto === undefined
        ? undefined
        : {
            position: Number(crypto.readBigUInt64BE(0)),
            lengthBytes: Number(crypto.readBigUInt64BE(8)),
          },
    // Without that bit, a program that does not know bitmaps has written the image since. The
    // bitmaps are invalid then.
    bitmaps:
      bitmaps === undefined || !hasBitmaps
        ? undefined
        : {
            entries: bitmaps.readUInt32BE(0),
            lengthBytes: Number(bitmaps.readBigUInt64BE(8)),
            position: Number(bitmaps.readBigUInt64BE(16)),
          },
  };
}

function unknownFeaturesProblem({ features, whole }: Header): string | undefined {
  const unknown = features & ~KNOWN_FEATURES;
  if (unknown !== 0n) return `it requires unknown qcow2 features: 0x${unknown.toString(16)}`;
  const compressionType = whole[COMPRESSION_TYPE_AT] ?? 0;
  const isStated = (features & COMPRESSION_TYPE) !== 0n;
  // 1 is zstd; 0, deflate, needs no feature.
  if (isStated ? compressionType === 1 : compressionType === 0) return undefined;
  return `it is a qcow2 of compression type ${compressionType}`;
}

function encryptionProblem(method: number): string | Finding | undefined {
  if (method === 0) return undefined;
  if (method !== LUKS) return `it is a qcow2 with encryption of method ${method}`;
  return { reason: "it is a qcow2 encrypted by LUKS", encryption: "qcow2_luks" };
}

function snapshotsProblem(count: number): string | undefined {
  if (count === 0) return undefined;
  return `it is a qcow2 with internal snapshots (${count}), whose data would be imported with it`;
}

/** The finding of tables that QEMU would refuse to read. */
function tablesProblem(fixed: Buffer, clusterBits: number): string | undefined {
  const clusterBytes = 2 ** clusterBits;
  if (extendsL2(fixed) && clusterBits < LEAST_BITS_OF_EXTENDED) {
    return `it is a qcow2 with extended L2 entries and clusters of ${clusterBytes} bytes`;
  }
  return (
    l1Problem(fixed, clusterBytes) ??
    refcountProblem(fixed, clusterBytes) ??
    snapshotTableProblem(fixed, clusterBytes)
  );
}

function l1Problem(fixed: Buffer, clusterBytes: number): string | undefined {
  const l1Bytes = fixed.readUInt32BE(L1_SIZE_AT) * 8;
  const l1Offset = fixed.readBigUInt64BE(L1_OFFSET_AT);
  if (l1Bytes > MOST_L1_BYTES) return `its qcow2 L1 table of ${l1Bytes} bytes is too large`;
  // An entry of L1 stands for a cluster of L2 entries, each of 8 bytes, or 16 if extended.
  const entryBytes = extendsL2(fixed) ? 16n : 8n;
  const bytesOfEntry = (BigInt(clusterBytes) / entryBytes) * BigInt(clusterBytes);
  if (BigInt(l1Bytes / 8) * bytesOfEntry < fixed.readBigUInt64BE(SIZE_AT)) {
    return "its qcow2 L1 table is too small for its size";
  }
  return l1Offset % BigInt(clusterBytes) === 0n ? undefined : "its qcow2 L1 table is not aligned";
}

function extendsL2(fixed: Buffer): boolean {
  const hasFeatures = fixed.length >= V3_BYTES;
  return hasFeatures && (fixed.readBigUInt64BE(INCOMPATIBLE_FEATURES_AT) & EXTENDED_L2) !== 0n;
}

function refcountProblem(fixed: Buffer, clusterBytes: number): string | undefined {
  const tableBytes = fixed.readUInt32BE(REFCOUNT_TABLE_CLUSTERS_AT) * clusterBytes;
  const tableOffset = fixed.readBigUInt64BE(REFCOUNT_TABLE_OFFSET_AT);
  const order = fixed.length >= V3_BYTES ? fixed.readUInt32BE(REFCOUNT_ORDER_AT) : 0;
  if (order > MOST_REFCOUNT_ORDER) return `it is a qcow2 of refcount order ${order}`;
  if (tableBytes === 0 || tableBytes > MOST_REFCOUNT_TABLE_BYTES) {
    return `its qcow2 refcount table has ${tableBytes} bytes`;
  }
  const isTable = tableOffset !== 0n && tableOffset % BigInt(clusterBytes) === 0n;
  return isTable ? undefined : "its qcow2 refcount table is not aligned";
}

function snapshotTableProblem(fixed: Buffer, clusterBytes: number): string | undefined {
  const count = fixed.readUInt32BE(SNAPSHOTS_AT);
  const position = fixed.readBigUInt64BE(SNAPSHOTS_OFFSET_AT);
  if (count > MOST_SNAPSHOTS) return `its qcow2 header states ${count} snapshots`;
  // QEMU requires that even without a snapshot.
  if (position % BigInt(clusterBytes) !== 0n || position >= 2n ** 63n) {
    return "its qcow2 snapshot table is not aligned";
  }
  return undefined;
}
