import type { FormatPolicy } from "../domain/format-policy.ts";
import type { Finding } from "./detector.ts";
import { protocolProblem } from "./protocol-strings.ts";

const TITLE = /^# ?disk ?descriptorfile/i;

// QEMU's own test for a descriptor without that title (block/vmdk.c, vmdk_probe): a version after
// comments and blank lines.
const VERSION_AFTER_COMMENTS = /^(?:[ \t]*(?:#[^\n]*)?\r?\n)* *version=[123]\r?\n/;

const SECTOR_BYTES = 512;
/**
 * The bytes that QEMU reads after the header, whatever length the header states for the descriptor
 * (block/vmdk.c, DESC_SIZE).
 */
export const QEMU_DESCRIPTOR_BYTES = 20 * SECTOR_BYTES;

const EXTENT_LINE = /^(?:RW|RDONLY|NOACCESS)\s/i;
const FIELD_LINE = /^([\w.:-]+)\s*=\s*(.*)$/;
const DATABASE_COMMENT = /^ddb\b(?!.*=)/i;

/** The identity that stands for no parent. */
const NO_PARENT = "ffffffff";

// Keys that programs write and that do not refer to anything. VirtualBox's identities of a parent
// are in `WITHOUT_PARENT`.
const HARMLESS =
  /^(?:version|encoding|cid|createtype|ddb\.(?:adaptertype|comment|deletable|encoding|longcontentid|thinprovisioned|toolsversion|toolsinstalltype|uuid|uuid\.image|uuid\.modification|virtualhwversion|geometry\.\w+))$/;

/** Keys that have a check of their own. */
const JUDGED_AS_PARENT = ["parentcid", "parentfilenamehint"];

// Further keys by which a program finds a parent. With these values there is none.
const WITHOUT_PARENT: Readonly<Record<string, RegExp>> = {
  isnativesnapshot: /^no$/,
  "ddb.nativeparentcid": /^(?:ffffffff)?$/,
  "ddb.uuid.parent": /^[0-]*$/,
  "ddb.uuid.parentmodification": /^[0-]*$/,
};

// Keys that, by their names, refer to a file, a program or a device: "changeTrackPath",
// "ddb.nativeParentHint", "ddb.iofilters", "ddb.sidecars", "digestFilename", "ddb.deviceFile",
// "encryptionKeys".
const NAMES_SOMETHING =
  /file|path|hint|parent|native|track|filter|sidecar|digest|device|redo|delta|snapshot|encryption|key|ur[il]|object/i;

// Values that look like a location: a path, a drive, or the name of another disk file.
const LOOKS_LIKE_PLACE =
  /[/\\]|^\w:|\.(?:vm\w+|vswp|rdm|raw|img|iso|qcow2?|vhdx?|vdi|dsk|flt|vmfd)$/i;

/**
 * The form of the names under which stores keep images: another image with such a name may be
 * beside this one.
 */
const STORED_NAME = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?:\.\d+)?$/i;

/** True if a file starts like the text descriptor of a VMDK. */
export function isDescriptor(first: Buffer): boolean {
  const text = first.toString("latin1", 0, 4096);
  return TITLE.test(text) || VERSION_AFTER_COMMENTS.test(text);
}

/** The descriptor in a file. */
export interface DescriptorBytes {
  /**
   * The bytes from the second sector on: the descriptor, and everything that QEMU reads with it.
   */
  readonly region: Buffer;
  /** The number of these bytes that the header states for the descriptor. */
  readonly declaredBytes: number;
}

/**
 * Judges the descriptor inside a VMDK, as far as any program reads it. VMware and VirtualBox read
 * the sectors that the header states, QEMU always twenty, each up to the first NUL. Every
 * occurrence of a word counts, in any line: QEMU searches some words as plain text, even in
 * comments.
 *
 * Takes as `capacitySectors` the size of the disk, as the header states it.
 */
export function descriptorChecks(
  { region, declaredBytes }: DescriptorBytes,
  capacitySectors: bigint,
  policy: FormatPolicy,
): Readonly<Record<string, string | Finding | undefined>> {
  const end = region.indexOf(0);
  const text = region.toString("latin1", 0, end === -1 ? region.length : end);
  const declared = region.subarray(0, declaredBytes);
  const isHidden = end !== -1 && end < declaredBytes && hidesText(declared.subarray(end), text);
  const lines = text
    .split(/[\r\n]/)
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  return {
    descriptor:
      endProblem(text, declaredBytes, isHidden) ?? linesProblem(lines) ?? cidProblem(region),
    create_type: createTypeProblem(text, policy),
    parent: parentProblem(text),
    other_files: otherFilesProblem(lines),
    extent: extentProblem(lines, capacitySectors),
    protocols: protocolProblem("vmdk descriptor", text),
  };
}

/** The longest rest of an earlier text: QEMU writes 8 hex digits where there may have been one. */
const LONGEST_REST = 7;

/**
 * True if bytes after the end of a descriptor are not just the rest of an earlier one. QEMU writes
 * the content id without leading zeros over the earlier text. If the new id is shorter, the last
 * bytes of the earlier text stay behind the new end (`vmdk_write_cid`).
 */
function hidesText(after: Buffer, text: string): boolean {
  const rest = after.subarray(1).toString("latin1").replace(/\0+$/, "");
  return rest.length > LONGEST_REST || !text.endsWith(rest);
}

function endProblem(text: string, declaredBytes: number, isHidden: boolean): string | undefined {
  if (isHidden) return "its vmdk descriptor continues after its end";
  if (text.length <= declaredBytes) return undefined;
  return `its vmdk descriptor continues after the ${declaredBytes} bytes that its header states`;
}

function linesProblem(lines: readonly string[]): string | undefined {
  const unknown = lines.find((line) =>
    [EXTENT_LINE, FIELD_LINE, DATABASE_COMMENT].every((known) => !known.test(line)),
  );
  if (unknown !== undefined) {
    return `its vmdk descriptor has the unknown line "${shown(unknown)}"`;
  }
  const fields = new Set<string>();
  for (const { key } of fieldsOf(lines)) {
    // Programs write some keys of the database twice. Each value is judged.
    if (key.startsWith("ddb.")) continue;
    if (fields.has(key)) return `its vmdk descriptor states ${shown(key)} twice`;
    fields.add(key);
  }
  return undefined;
}

/**
 * The finding of a missing `CID` or `parentCID`: QEMU does not open an image without both. It looks
 * for them as plain text (`vmdk_read_cid`).
 */
function cidProblem(region: Buffer): string | undefined {
  const read = region.toString("latin1", 0, Math.min(region.length, QEMU_DESCRIPTOR_BYTES - 1));
  const [text = ""] = read.split("\0", 1);
  const missing = ["CID", "parentCID"].find((name) => {
    const at = text.indexOf(name);
    return at === -1 || !/^\s*[+-]?(?:0x)?[0-9a-f]/i.test(text.slice(at + name.length + 1));
  });
  return missing === undefined ? undefined : `its vmdk descriptor states no ${missing}`;
}

interface Field {
  /** In lower case. */
  readonly key: string;
  /** Without quotes. */
  readonly value: string;
}

function fieldsOf(lines: readonly string[]): Field[] {
  return lines.flatMap((line) => {
    const [, key, value = ""] = FIELD_LINE.exec(line) ?? [];
    if (key === undefined) return [];
    return [{ key: key.toLowerCase(), value: value.replaceAll('"', "").trim() }];
  });
}

function createTypeProblem(text: string, { vmdkAllowedTypes }: FormatPolicy): string | undefined {
  const types = [...text.matchAll(/createType\s*=\s*"?([^"\r\n]*)/gi)].map(([, type = ""]) =>
    type.trim(),
  );
  if (types.length === 0) return "its vmdk descriptor states no createType";
  const allowed = vmdkAllowedTypes.map((type) => type.toLowerCase());
  const refused = types.find((type) => !allowed.includes(type.toLowerCase()));
  if (refused === undefined) return undefined;
  return `it is a vmdk of type "${shown(refused)}", which is not allowed (\`formats.vmdk_allowed_types\`: ${vmdkAllowedTypes.join(", ") || "none"})`;
}

function parentProblem(text: string): string | undefined {
  const hasParentCid = [...text.matchAll(/parentCID\s*=\s*([^\r\n]*)/gi)].some(
    ([, cid = ""]) => cid.replaceAll('"', "").trim().toLowerCase() !== NO_PARENT,
  );
  const hasParent = hasParentCid || /parentFileNameHint/i.test(text);
  return hasParent ? "it is a vmdk overlay that refers to a parent" : undefined;
}

/**
 * The finding of another file that VMware would open or load with the image: a log of its changes,
 * a filter with its file, the parent of an array.
 */
function otherFilesProblem(lines: readonly string[]): Finding | undefined {
  const found = fieldsOf(lines).find(({ key, value }) => {
    if (HARMLESS.test(key) || JUDGED_AS_PARENT.includes(key)) return false;
    const withoutParent = WITHOUT_PARENT[key];
    if (withoutParent !== undefined) return !withoutParent.test(value.toLowerCase());
    // An empty value refers to nothing.
    return value !== "" && (NAMES_SOMETHING.test(key) || LOOKS_LIKE_PLACE.test(value));
  });
  if (found === undefined) return undefined;
  return {
    reason: `its vmdk descriptor refers to another file: ${shown(found.key)} is "${shown(found.value)}"`,
    hint: "Export or convert the disk again to remove that line: `qemu-img convert -O vmdk IN OUT`.",
  };
}

/**
 * The finding of an extent that is not this file. QEMU and VirtualBox ignore its name if the data
 * follows the header. VMware opens a growable disk by that name, in the directory of the
 * descriptor. Programs write the name of their own file, which an import changes, so that any plain
 * name is accepted; but not one with a path, and not that of another image in a store.
 */
function extentProblem(lines: readonly string[], capacitySectors: bigint): string | undefined {
  const [extent, ...others] = lines.filter((line) => EXTENT_LINE.test(line));
  if (extent === undefined || others.length > 0) {
    const count = extent === undefined ? 0 : others.length + 1;
    return `its vmdk descriptor has ${count} extents, not one`;
  }
  const [, sectors, name] =
    /^(?:RW|RDONLY)\s+(\d{1,20})\s+SPARSE\s+"([^"/\\:*?<>|%\0-\x1f]+)"$/i.exec(extent) ?? [];
  if (sectors === undefined || name === undefined || isElsewhere(name)) {
    return "the extent in its vmdk descriptor refers to another file";
  }
  if (BigInt(sectors) === capacitySectors) return undefined;
  return `the extent in its vmdk descriptor has ${sectors} sectors, but its header states ${String(capacitySectors)}`;
}

function isElsewhere(name: string): boolean {
  return name.includes("..") || name !== name.trim() || STORED_NAME.test(name);
}

function shown(text: string): string {
  return text.slice(0, 64).replace(/[^\x20-\x7e]/g, "?");
}
