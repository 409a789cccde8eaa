import type { Detector } from "./detector.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";

const MAGIC = Buffer.from("vhdxfile", "latin1");

// Microsoft's "Virtual Hard Disk v2 (VHDX) File Format", MS-VHDX; little-endian. Two headers and two region tables:
const KiB = 1024;
const HEADERS_AT = [64 * KiB, 128 * KiB];
const REGION_TABLES_AT = [192 * KiB, 256 * KiB] as const;
const LOG_GUID_AT = 48;
const HEADER_BYTES = 80;
const TABLE_HEADER_BYTES = { regions: 16, metadata: 32 };
const ENTRY_BYTES = 32;
const MOST_ENTRIES = 2047;

const REGION = {
  blockTable: guid("2dc27766-f623-4200-9d64-115e9bfd4a08"),
  metadata: guid("8b7ca206-4790-4b9a-b8fe-575f050f886e"),
};

const ITEM = {
  fileParameters: guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b"),
  virtualDiskSize: guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8"),
  parentLocator: guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c"),
};
const HAS_PARENT = 2;

/** Microsoft's newer format. */
export const vhdx: Detector = {
  format: "vhdx",
  matches: ({ first }) => first.subarray(0, MAGIC.length).equals(MAGIC),
  examine: async (image) => {
    const regions = await readRegions(image);
    const items = await readItems(image, regionAt(regions, REGION.metadata));
    const size = await readItem(image, items, ITEM.virtualDiskSize, "vhdx virtual size");
    const parameters = await readItem(image, items, ITEM.fileParameters, "vhdx file parameters");
    const hasParent =
      (parameters.readUInt32LE(4) & HAS_PARENT) !== 0 || items.has(ITEM.parentLocator);
    return {
      virtualSizeBytes: size.readBigUInt64LE(),
      checks: {
        parent: hasParent ? "it is a differencing vhdx that refers to a parent" : undefined,
        // What the log says is written over the rest when the image is opened for writing.
        log: await logProblem(image),
        block_table: blockTableProblem(image, regionAt(regions, REGION.blockTable)),
      },
    };
  },
};

/** The text of a GUID as its 16 bytes in hexadecimal, as MS-VHDX stores them. */
function guid(text: string): string {
  const [a = "", b = "", c = "", ...rest] = text.split("-");
  const reversed = [a, b, c].map((part) => Buffer.from(part, "hex").reverse().toString("hex"));
  return [...reversed, ...rest].join("");
}

interface Extent {
  readonly position: bigint;
  readonly lengthBytes: bigint;
}

async function readRegions(image: ImageBytes): Promise<ReadonlyMap<string, Extent>> {
  const [one, other] = [
    await readTable(image, "vhdx region table", BigInt(REGION_TABLES_AT[0]), "regi"),
    await readTable(image, "vhdx region table", BigInt(REGION_TABLES_AT[1]), "regi"),
  ];
  // A program takes the one whose checksum is right, so two that differ are two images.
  if (!one.equals(other)) throw new BrokenImage("its two vhdx region tables differ");
  return extentsOf(one, (entry) => ({
    position: entry.readBigUInt64LE(16),
    lengthBytes: BigInt(entry.readUInt32LE(24)),
  }));
}

async function readItems(
  image: ImageBytes,
  metadata: Extent,
): Promise<ReadonlyMap<string, Extent>> {
  const table = await readTable(image, "vhdx metadata table", metadata.position, "metadata");
  return extentsOf(table, (entry) => ({
    position: metadata.position + BigInt(entry.readUInt32LE(16)),
    lengthBytes: BigInt(entry.readUInt32LE(20)),
  }));
}

/** The entries of a table, one behind the other; the tables of both kinds differ in their heads only. */
async function readTable(
  image: ImageBytes,
  what: string,
  position: bigint,
  signature: "regi" | "metadata",
): Promise<Buffer> {
  const isMetadata = signature === "metadata";
  const headBytes = isMetadata ? TABLE_HEADER_BYTES.metadata : TABLE_HEADER_BYTES.regions;
  const head = await image.read(what, position, headBytes);
  if (head.toString("latin1", 0, signature.length) !== signature) {
    throw new BrokenImage(`its ${what} has no signature`);
  }
  const count = isMetadata ? head.readUInt16LE(10) : head.readUInt32LE(8);
  if (count > MOST_ENTRIES) throw new BrokenImage(`its ${what} has ${count} entries`);
  return image.read(what, position + BigInt(headBytes), count * ENTRY_BYTES);
}

function extentsOf(
  entries: Buffer,
  extentOf: (entry: Buffer) => Extent,
): ReadonlyMap<string, Extent> {
  const extents = new Map<string, Extent>();
  for (let at = 0; at < entries.length; at += ENTRY_BYTES) {
    const entry = entries.subarray(at, at + ENTRY_BYTES);
    const name = entry.toString("hex", 0, 16);
    if (extents.has(name)) throw new BrokenImage("its vhdx tables name a thing twice");
    extents.set(name, extentOf(entry));
  }
  return extents;
}

function regionAt(regions: ReadonlyMap<string, Extent>, name: string): Extent {
  const region = regions.get(name);
  if (region !== undefined) return region;
  throw new BrokenImage("its vhdx region table names no metadata, or no block table");
}

async function readItem(
  image: ImageBytes,
  items: ReadonlyMap<string, Extent>,
  name: string,
  what: string,
): Promise<Buffer> {
  const item = items.get(name);
  if (item?.lengthBytes !== 8n) throw new BrokenImage(`its ${what} is missing`);
  return image.read(what, item.position, 8);
}

async function logProblem(image: ImageBytes): Promise<string | undefined> {
  for (const position of HEADERS_AT) {
    const header = await image.read("vhdx header", position, HEADER_BYTES);
    const isHeader = header.toString("latin1", 0, 4) === "head";
    const hasLog = header.subarray(LOG_GUID_AT, LOG_GUID_AT + 16).some((byte) => byte !== 0);
    if (isHeader && hasLog)
      return "its vhdx log was not replayed: its last writer did not close it";
  }
  return undefined;
}

function blockTableProblem(image: ImageBytes, { position, lengthBytes }: Extent) {
  return image.holds(position, lengthBytes) ? undefined : "its vhdx block table is cut off";
}
