import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { crc32c } from "../../src/formats/crc32c.ts";
import { MIB } from "./mib.ts";

// The smallest images that are whole, one per format, for tests that change single bytes of them.
// What real programs write stands in test/formats/corpus.test.ts.

const KiB = 1024;
const SECTOR = 512;

/** A piece of an image: text as latin1, or a little- or big-endian number. */
type Value = string | { readonly le?: 2 | 4 | 8; readonly be?: 2 | 4 | 8; readonly value: bigint };

/** A little-endian number of 2, 4 or 8 bytes. */
export function le(bytes: 2 | 4 | 8, value: bigint | number): Value {
  return { le: bytes, value: BigInt(value) };
}

/** A big-endian number of 2, 4 or 8 bytes. */
export function be(bytes: 2 | 4 | 8, value: bigint | number): Value {
  return { be: bytes, value: BigInt(value) };
}

/** A copy of an image with values put at offsets. */
export function patched(image: Buffer, ...changes: readonly (readonly [number, Value])[]): Buffer {
  const copy = Buffer.from(image);
  for (const [offset, value] of changes) {
    if (typeof value === "string") copy.write(value, offset, "latin1");
    else bytesOf(value).copy(copy, offset);
  }
  return copy;
}

function bytesOf(value: Exclude<Value, string>): Buffer {
  const bytes = Buffer.alloc(8);
  if (value.le !== undefined) {
    bytes.writeBigUInt64LE(value.value);
    return bytes.subarray(0, value.le);
  }
  bytes.writeBigUInt64BE(value.value);
  return bytes.subarray(8 - (value.be ?? 8));
}

/** A qcow2 of 5 MiB without data: header, refcount table, L1 table, in clusters of 64 KiB. */
export function craftedQcow2(version: 2 | 3 = 3): Buffer {
  const common = patched(
    Buffer.alloc(4 * 64 * KiB),
    [0, "QFI\xfb"],
    [4, be(4, version)],
    [20, be(4, 16)],
    [24, be(8, 5 * MIB)],
    [36, be(4, 1)],
    [40, be(8, 3 * 64 * KiB)],
    [48, be(8, 64 * KiB)],
    [56, be(4, 1)],
  );
  return version === 2 ? common : patched(common, [96, be(4, 4)], [100, be(4, 104)]);
}

/**
 * A qcow2 with a snapshot in its last cluster, of six, which shares the L1 table of the disk
 * itself.
 */
export function craftedSnapshot(): Buffer {
  const cluster = 64 * KiB;
  return patched(
    Buffer.concat([craftedQcow2(), Buffer.alloc(2 * cluster)]),
    [3 * cluster, be(8, 4 * cluster)],
    [60, be(4, 1)],
    [64, be(8, 5 * cluster)],
    [5 * cluster, be(8, 3 * cluster)],
    [5 * cluster + 8, be(4, 1)],
  );
}

/** The descriptor of {@link craftedVmdk}. */
export const DESCRIPTOR = [
  "# Disk DescriptorFile",
  "version=1",
  "CID=12345678",
  "parentCID=ffffffff",
  'createType="monolithicSparse"',
  'RW 20480 SPARSE "image.vmdk"',
  'ddb.adapterType = "ide"',
  "",
].join("\n");

/** A monolithicSparse VMDK of 10 MiB without data. */
export function craftedVmdk(descriptor = DESCRIPTOR): Buffer {
  return patched(
    Buffer.alloc(128 * KiB),
    [0, "KDMV"],
    [4, le(4, 1)],
    [12, le(8, 20480)],
    [20, le(8, 128)],
    [28, le(8, 1)],
    [36, le(8, 20)],
    [44, le(4, 512)],
    [48, le(8, 21)],
    [56, le(8, 26)],
    [64, le(8, 128)],
    [SECTOR, descriptor],
  );
}

/**
 * A VMDK as {@link craftedVmdk}, as a stream: what its header leaves open is said by a footer at
 * its end.
 */
export function craftedVmdkStream(): Buffer {
  const streamed = craftedVmdk(DESCRIPTOR.replace("monolithicSparse", "streamOptimized"));
  const marker = patched(Buffer.alloc(SECTOR), [0, le(8, 1)], [12, le(4, 3)]);
  const header = patched(streamed, [56, le(8, 2n ** 64n - 1n)]);
  return Buffer.concat([header, marker, streamed.subarray(0, SECTOR), Buffer.alloc(SECTOR)]);
}

/** The footer of a VHD of 3 MiB, as Hyper-V writes it. */
export function craftedVhdFooter(type: number): Buffer {
  return sealedVhd(
    patched(
      Buffer.alloc(SECTOR),
      [0, "conectix"],
      [16, be(8, type === 2 ? 2n ** 64n - 1n : SECTOR)],
      [28, "win "],
      [48, be(8, 3 * MIB)],
      [60, be(4, type)],
    ),
  );
}

/** A VHD, or its footer alone, with the checksums that belong to its bytes. */
export function sealedVhd(image: Buffer): Buffer {
  const sealed = Buffer.from(image);
  const seal = (structure: Buffer, at: number): void => {
    structure.writeUInt32BE(0, at);
    structure.writeUInt32BE(~structure.reduce((sum, byte) => sum + byte, 0) >>> 0, at);
  };
  for (const footer of [sealed.subarray(0, SECTOR), sealed.subarray(-SECTOR)]) {
    if (footer.toString("latin1", 0, 8) === "conectix") seal(footer, 64);
  }
  const header = sealed.subarray(SECTOR, 3 * SECTOR);
  if (header.toString("latin1", 0, 8) === "cxsparse") seal(header, 36);
  return sealed;
}

/** A fixed VHD of 3 MiB. */
export function craftedFixedVhd(): Buffer {
  return Buffer.concat([Buffer.alloc(3 * MIB, 7), craftedVhdFooter(2)]);
}

/** A dynamic VHD of 3 MiB without data: footer, dynamic header, block table, footer. */
export function craftedDynamicVhd(type = 3): Buffer {
  const header = patched(
    Buffer.alloc(KiB),
    [0, "cxsparse"],
    [16, be(8, 3 * SECTOR)],
    [28, be(4, 2)],
    [32, be(4, 2 * MIB)],
  );
  const footer = craftedVhdFooter(type);
  return sealedVhd(Buffer.concat([footer, header, Buffer.alloc(SECTOR, 0xff), footer]));
}

/** The GUIDs of MS-VHDX, in hexadecimal as they are stored. */
export const VHDX_GUIDS = {
  blockTable: "6677c22d23f600429d64115e9bfd4a08",
  metadata: "06a27c8b90479a4bb8fe575f050f886e",
  fileParameters: "3767a1ca36fa434db3b633f0aa44e76b",
  virtualDiskSize: "2442a52f1bcd7648b2115dbed83bf4b8",
  page83: "ab12cabee6b2234593efc309e000c746",
  logicalSector: "1dbf41816fa90947ba47f233a8faab5f",
  physicalSector: "c748a3cd5d4471449cc9e9885251c556",
  parentLocator: "2d5fd3a80bb34d45abf7d3d84834ab0c",
};

/**
 * A VHDX of 9 MiB without data: headers, region tables, log at 1 MiB, metadata at 2 MiB, block
 * table at 3 MiB.
 */
export function craftedVhdx(): Buffer {
  const region = (name: string, position: number): Buffer =>
    patched(
      Buffer.concat([Buffer.from(name, "hex"), Buffer.alloc(16)]),
      [16, le(8, position)],
      [24, le(4, MIB)],
      [28, le(4, 1)],
    );
  const item = (name: string, position: number, bytes: number): Buffer =>
    patched(
      Buffer.concat([Buffer.from(name, "hex"), Buffer.alloc(16)]),
      [16, le(4, position)],
      [20, le(4, bytes)],
      [24, le(4, 4)],
    );
  const regions = Buffer.concat([
    patched(Buffer.alloc(16), [0, "regi"], [8, le(4, 2)]),
    region(VHDX_GUIDS.blockTable, 3 * MIB),
    region(VHDX_GUIDS.metadata, 2 * MIB),
  ]);
  const metadata = Buffer.concat([
    patched(Buffer.alloc(32), [0, "metadata"], [10, le(2, 5)]),
    item(VHDX_GUIDS.fileParameters, 64 * KiB, 8),
    item(VHDX_GUIDS.virtualDiskSize, 64 * KiB + 8, 8),
    item(VHDX_GUIDS.page83, 64 * KiB + 16, 16),
    item(VHDX_GUIDS.logicalSector, 64 * KiB + 32, 4),
    item(VHDX_GUIDS.physicalSector, 64 * KiB + 36, 4),
  ]);
  const header = patched(
    Buffer.alloc(4 * KiB),
    [0, "head"],
    [66, le(2, 1)],
    [68, le(4, MIB)],
    [72, le(8, MIB)],
  );
  const image = patched(
    Buffer.alloc(4 * MIB),
    [0, "vhdxfile"],
    [2 * MIB + 64 * KiB, le(4, MIB)],
    [2 * MIB + 64 * KiB + 8, le(8, 9 * MIB)],
    [2 * MIB + 64 * KiB + 32, le(4, 512)],
    [2 * MIB + 64 * KiB + 36, le(4, 512)],
  );
  patched(header, [8, le(8, 1)]).copy(image, 64 * KiB);
  patched(header, [8, le(8, 2)]).copy(image, 128 * KiB);
  regions.copy(image, 192 * KiB);
  regions.copy(image, 256 * KiB);
  metadata.copy(image, 2 * MIB);
  return sealedVhdx(image);
}

/** A VHDX with the checksums that belong to its bytes, in both headers and both region tables. */
export function sealedVhdx(image: Buffer): Buffer {
  const sealed = Buffer.from(image);
  for (const [at, bytes] of [
    [64 * KiB, 4 * KiB],
    [128 * KiB, 4 * KiB],
    [192 * KiB, 64 * KiB],
    [256 * KiB, 64 * KiB],
  ] as const) {
    sealed.writeUInt32LE(0, at + 4);
    sealed.writeUInt32LE(crc32c(sealed.subarray(at, at + bytes)), at + 4);
  }
  return sealed;
}

/** A dynamic VDI without data. @param diskBytes - a number of MiB */
export function craftedVdi(diskBytes = 7 * MIB): Buffer {
  const blocks = diskBytes / MIB;
  const mapBytes = Math.ceil((blocks * 4) / SECTOR) * SECTOR;
  const image = patched(
    Buffer.alloc(SECTOR + mapBytes),
    [0x40, le(4, 0xbeda107f)],
    [0x44, le(4, 0x00010001)],
    [0x48, le(4, 0x180)],
    [0x4c, le(4, 1)],
    [0x154, le(4, SECTOR)],
    [0x158, le(4, SECTOR + mapBytes)],
    [0x168, le(4, SECTOR)],
    [0x170, le(8, diskBytes)],
    [0x178, le(4, MIB)],
    [0x180, le(4, blocks)],
  );
  return image.fill(0xff, SECTOR, SECTOR + blocks * 4);
}

/** A disc of ISO 9660 and 640 KiB. */
export function craftedIso(): Buffer {
  return patched(
    Buffer.alloc(640 * KiB),
    [32 * KiB, "\x01"],
    [32 * KiB + 1, "CD001"],
    [32 * KiB + 80, le(4, 320)],
    [32 * KiB + 128, le(2, 2 * KiB)],
  );
}

/**
 * A UDF volume whose partition ends with it. @param blockBytes - 512 or 4096 on a hard disk, 2048
 * on a disc
 */
export function craftedUdf(blockBytes = 2 * KiB): Buffer {
  const stride = Math.max(blockBytes, 2 * KiB);
  const anchorAt = 256 * blockBytes;
  const sequenceAt = 260 * blockBytes;
  return patched(
    Buffer.alloc(320 * blockBytes),
    [32 * KiB + 1, "BEA01"],
    [32 * KiB + stride + 1, "NSR03"],
    [32 * KiB + 2 * stride + 1, "TEA01"],
    [anchorAt, le(2, 2)],
    [anchorAt + 12, le(4, 256)],
    [anchorAt + 16, le(4, 16 * blockBytes)],
    [anchorAt + 20, le(4, 260)],
    [sequenceAt + blockBytes, le(2, 5)],
    [sequenceAt + blockBytes + 188, le(4, 280)],
    [sequenceAt + blockBytes + 192, le(4, 40)],
  );
}

/** A disk of 1 MiB with a Linux partition that can be booted and ends with the disk. */
export function craftedMbr(): Buffer {
  return patched(
    Buffer.alloc(MIB),
    [446, "\x80\0\x01\x01\x83"],
    [454, le(4, 1)],
    [458, le(4, 2047)],
    [510, "\x55\xaa"],
  );
}

/**
 * A disk of 1 MiB with a GPT whose one partition ends where the copy of the GPT begins. @param
 * sectorBytes - 512 or 4096
 */
export function craftedGpt(sectorBytes = SECTOR): Buffer {
  const sectors = MIB / sectorBytes;
  const entriesSectors = (128 * 128) / sectorBytes;
  const lastUsable = sectors - 2 - entriesSectors;
  const entries = patched(
    Buffer.alloc(128 * 128),
    [0, "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4"],
    [32, le(8, 2 + entriesSectors)],
    [40, le(8, lastUsable)],
  );
  const header = (own: number, other: number, entriesAt: number): Buffer => {
    const unsummed = patched(
      Buffer.alloc(92),
      [0, "EFI PART\0\0\x01\0"],
      [12, le(4, 92)],
      [24, le(8, own)],
      [32, le(8, other)],
      [40, le(8, 2 + entriesSectors)],
      [48, le(8, lastUsable)],
      [72, le(8, entriesAt)],
      [80, le(4, 128)],
      [84, le(4, 128)],
      [88, le(4, crc32(entries))],
    );
    return patched(unsummed, [16, le(4, crc32(unsummed))]);
  };
  const disk = patched(
    Buffer.alloc(MIB),
    [446, "\0\0\x02\0\xee\xff\xff\xff"],
    [454, le(4, 1)],
    [458, le(4, sectors - 1)],
    [510, "\x55\xaa"],
  );
  header(1, sectors - 1, 2).copy(disk, sectorBytes);
  entries.copy(disk, 2 * sectorBytes);
  header(sectors - 1, 1, lastUsable + 1).copy(disk, (sectors - 1) * sectorBytes);
  entries.copy(disk, (lastUsable + 1) * sectorBytes);
  return disk;
}

/** The header of a LUKS of this version, and 64 KiB behind it. */
export function craftedLuks(version: 1 | 2): Buffer {
  if (version === 2) return craftedLuks2();
  return patched(
    Buffer.alloc(128 * KiB),
    [0, "LUKS\xba\xbe"],
    [6, be(2, version)],
    [104, be(4, 128)],
    [108, be(4, 64)],
    [164, be(4, 1000)],
    [208, be(4, 0x00ac71f3)],
    [212, be(4, 1000)],
    [248, be(4, 8)],
    [252, be(4, 100)],
  );
}

/** The JSON of a LUKS2 header about the data and the keys. */
interface Luks2Parts {
  readonly segment?: Readonly<Record<string, unknown>>;
  readonly area?: Readonly<Record<string, unknown>>;
  readonly kdf?: Readonly<Record<string, unknown>>;
  /** The JSON itself, instead. */
  readonly json?: string;
}

/**
 * A LUKS2 of 128 KiB: two headers of 16 KiB, a key slot, and 64 KiB of data. @param parts - what
 * differs
 */
export function craftedLuks2({ segment, area, kdf, json }: Luks2Parts = {}): Buffer {
  const header = {
    keyslots: {
      0: {
        type: "luks2",
        area: { type: "raw", offset: `${32 * KiB}`, size: `${16 * KiB}`, ...area },
        kdf: { type: "pbkdf2", iterations: 1000, ...kdf },
      },
    },
    tokens: {},
    segments: {
      0: {
        type: "crypt",
        offset: `${64 * KiB}`,
        size: "dynamic",
        sector_size: SECTOR,
        ...segment,
      },
    },
    digests: { 0: { type: "pbkdf2", iterations: 1000 } },
    config: { json_size: `${12 * KiB}`, keyslots_size: `${32 * KiB}` },
  };
  const copies = [0, 16 * KiB].map((position) => {
    const copy = patched(
      Buffer.alloc(16 * KiB),
      [0, position === 0 ? "LUKS\xba\xbe" : "SKUL\xba\xbe"],
      [6, be(2, 2)],
      [8, be(8, 16 * KiB)],
      [16, be(8, 1)],
      [72, "sha256"],
      [256, be(8, position)],
      [4 * KiB, json ?? JSON.stringify(header)],
    );
    createHash("sha256").update(copy).digest().copy(copy, 448);
    return copy;
  });
  return Buffer.concat([...copies, Buffer.alloc(96 * KiB)]);
}
