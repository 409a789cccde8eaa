import type { FormatPolicy } from "../domain/format-policy.ts";
import { protocolProblem } from "./protocol-strings.ts";

const TITLE = /^# ?disk ?descriptorfile/i;

// QEMU's own test for a descriptor without that title (block/vmdk.c, vmdk_probe): comments and blank lines, then a version.
const VERSION_AFTER_COMMENTS = /^(?:[ \t]*(?:#[^\n]*)?\r?\n)* *version=[123]\r?\n/;

const EXTENT_LINE = /^(?:RW|RDONLY|NOACCESS)\s/i;
const FIELD_LINE = /^(\w+)\s*=/;
const DATABASE_LINE = /^ddb\.?\w*/i;

/** Whether a file starts like the text descriptor of a VMDK. */
export function isDescriptor(first: Buffer): boolean {
  const text = first.toString("latin1", 0, 4096);
  return TITLE.test(text) || VERSION_AFTER_COMMENTS.test(text);
}

/**
 * Judges the descriptor that is inside of a VMDK. Every occurrence of a word counts, in whichever line it stands: QEMU
 * searches some of them as plain text, even in comments.
 *
 * @param region - the sectors of the descriptor: text, then zeros
 * @param capacitySectors - the size of the disk by the header
 * @returns the checks, as detectors give them
 */
export function descriptorChecks(
  region: Buffer,
  capacitySectors: bigint,
  policy: FormatPolicy,
): Readonly<Record<string, string | undefined>> {
  const end = region.indexOf(0);
  const text = region.toString("latin1", 0, end === -1 ? region.length : end);
  const isHidden = end !== -1 && region.subarray(end).some((byte) => byte !== 0);
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  return {
    descriptor: isHidden ? "its vmdk descriptor goes on behind its end" : linesProblem(lines),
    create_type: createTypeProblem(text, policy),
    parent: parentProblem(text),
    extent: extentProblem(lines, capacitySectors),
    protocols: protocolProblem("vmdk descriptor", text),
  };
}

function linesProblem(lines: readonly string[]): string | undefined {
  const unknown = lines.find((line) =>
    [EXTENT_LINE, FIELD_LINE, DATABASE_LINE].every((known) => !known.test(line)),
  );
  if (unknown !== undefined) {
    return `its vmdk descriptor has the unknown line "${shown(unknown)}"`;
  }
  const fields = new Set<string>();
  for (const line of lines) {
    const field = FIELD_LINE.exec(line)?.[1]?.toLowerCase();
    if (field === undefined) continue;
    if (fields.has(field)) return `its vmdk descriptor states ${shown(field)} twice`;
    fields.add(field);
  }
  return undefined;
}

function createTypeProblem(text: string, { vmdkAllowedTypes }: FormatPolicy): string | undefined {
  const types = [...text.matchAll(/createType\s*=\s*"?([^"\r\n]*)/gi)].map(([, type = ""]) => type);
  if (types.length === 0) return "its vmdk descriptor states no createType";
  const allowed = vmdkAllowedTypes.map((type) => type.toLowerCase());
  const refused = types.find((type) => !allowed.includes(type.toLowerCase()));
  if (refused === undefined) return undefined;
  return `it is a vmdk of type "${shown(refused)}", and ${vmdkAllowedTypes.join(" and ") || "none"} are allowed (\`formats.vmdk_allowed_types\`)`;
}

function parentProblem(text: string): string | undefined {
  const hasParentCid = [...text.matchAll(/parentCID\s*=\s*([^\r\n]*)/gi)].some(
    ([, cid = ""]) => cid.trim().toLowerCase() !== "ffffffff",
  );
  const hasParent = hasParentCid || /parentFileNameHint/i.test(text);
  return hasParent ? "it is a vmdk overlay that refers to a parent" : undefined;
}

function extentProblem(lines: readonly string[], capacitySectors: bigint): string | undefined {
  const [extent, ...others] = lines.filter((line) => EXTENT_LINE.test(line));
  if (extent === undefined || others.length > 0) {
    const count = extent === undefined ? 0 : others.length + 1;
    return `its vmdk descriptor has ${count} extents, and must have one`;
  }
  // The name of the only extent is the file's own, and is ignored; a path shows that it is meant for something else.
  const [, sectors, name] = /^\w+\s+(\d{1,20})\s+SPARSE\s+"([^"/\\]*)"$/i.exec(extent) ?? [];
  if (sectors === undefined || name === undefined || name.includes("..")) {
    return "the extent in its vmdk descriptor refers to another file";
  }
  if (BigInt(sectors) === capacitySectors) return undefined;
  return `the extent in its vmdk descriptor has ${sectors} sectors, and its header says ${String(capacitySectors)}`;
}

function shown(text: string): string {
  return text.slice(0, 64).replace(/[^\x20-\x7e]/g, "?");
}
