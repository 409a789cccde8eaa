import type { FormatPolicy } from "../domain/format-policy.ts";
import type { ImportFailureCode } from "../domain/import-failure.ts";
import type { Finding } from "./detector.ts";

/** The meaning of one check, when an image fails it. */
interface CheckRule {
  /** The failure that it is reported as. */
  readonly code: ImportFailureCode;
  /** True if it is reported alone, because it makes all other checks pointless. */
  readonly alone: boolean;
  /** The way out that leaves the policy as it is. */
  readonly hint: string;
  /**
   * The setting that can tolerate it. Default: no setting tolerates it.
   */
  readonly tolerance?: Tolerance;
}

interface Tolerance {
  /** The name of the setting: `formats.allow_dirty`. */
  readonly setting: string;
  /** The change of the setting, as a clause after the word "or". */
  readonly change: (finding: Finding) => string;
  readonly isGranted: (policy: FormatPolicy, finding: Finding) => boolean;
}

function unsafe(hint: string, tolerance?: Tolerance): CheckRule {
  return { code: "UnsafeImage", alone: false, hint, ...(tolerance ? { tolerance } : {}) };
}

const STAND_ALONE =
  "Convert it where the other file is, for example with `qemu-img convert`: the result must not refer to another file.";
const GET_AGAIN =
  "Download or copy the image again, or create it again with the program that wrote it, and compare checksums.";

function partitionCheck(check: FormatPolicy["gptSafetyChecksNonfatal"][number]): CheckRule {
  return unsafe("Rewrite its partition table, for example with `sgdisk` or `sfdisk`", {
    setting: "formats.gpt_safety_checks_nonfatal",
    change: () => `add "${check}" to \`formats.gpt_safety_checks_nonfatal\``,
    isGranted: ({ gptSafetyChecksNonfatal }) => gptSafetyChecksNonfatal.includes(check),
  });
}

/**
 * The rules of checks. If several failed checks are to be reported alone, the first of them in this
 * table is reported. `ELSE` is the rule of a check that is not in this table: no setting tolerates
 * it.
 */
const RULES: Readonly<Record<string, CheckRule>> = {
  one_format: {
    ...unsafe(
      "Convert it from the format that you know it to have, so that only one format is left: `qemu-img convert -f FORMAT -O qcow2 IN OUT`.",
    ),
    alone: true,
  },
  content: {
    ...unsafe(
      "Check the URL or the path: it leads to a page or a text, such as a login page or an error message, instead of the image.",
    ),
    alone: true,
  },
  banned: {
    ...unsafe(
      "Convert it where its files are, for example with `qemu-img convert -O qcow2 IN OUT`.",
    ),
    alone: true,
  },
  declared_format: {
    code: "FormatMismatch",
    alone: true,
    hint: "Declare the format that the data has (`--disk-format`), or supply data of the declared format",
    tolerance: {
      setting: "formats.require_image_format_match",
      change: () => "set `formats.require_image_format_match: false`",
      isGranted: ({ requireImageFormatMatch }) => !requireImageFormatMatch,
    },
  },
  disk_format: {
    code: "FormatNotAllowed",
    alone: true,
    hint: "Convert the image to a format that is allowed, or add this format to `formats.disk_formats`.",
  },
  container_format: {
    code: "FormatNotAllowed",
    alone: true,
    hint: "Extract the image from its container, or add this container format to `formats.container_formats`.",
  },
  importable: unsafe("Convert or unpack it, and import the disk."),
  backing_file: unsafe(STAND_ALONE),
  data_file: unsafe(STAND_ALONE),
  parent: unsafe(STAND_ALONE),
  extent: unsafe(STAND_ALONE),
  protocols: unsafe(STAND_ALONE),
  create_type: unsafe(
    "Convert it to one file: `qemu-img convert -O vmdk -o subformat=monolithicSparse IN OUT`.",
  ),
  complete: unsafe(
    "Download or copy the image again, and compare its size and checksum with those that its publisher states.",
  ),
  dirty: unsafe("Repair it, for example with `qemu-img check -r all`", {
    setting: "formats.allow_dirty",
    change: () => "set `formats.allow_dirty: true`",
    isGranted: ({ allowDirty }) => allowDirty,
  }),
  snapshots: unsafe("Convert it without its snapshots: `qemu-img convert -O qcow2 IN OUT`", {
    setting: "formats.allow_snapshots",
    change: () => "set `formats.allow_snapshots: true`",
    isGranted: ({ allowSnapshots }) => allowSnapshots,
  }),
  encryption: unsafe("Decrypt it, or encrypt it in a way that is allowed here", {
    setting: "formats.allowed_encryption",
    change: ({ encryption = "" }) => `add "${encryption}" to \`formats.allowed_encryption\``,
    isGranted: ({ allowedEncryption }, { encryption }) =>
      encryption !== undefined && allowedEncryption.includes(encryption),
  }),
  mbr: partitionCheck("mbr"),
  gpt: partitionCheck("gpt"),
  virtual_size: unsafe("Shrink the disk, or raise `formats.max_virtual_size`."),
  virtual_ratio: unsafe("Raise `formats.max_virtual_ratio`, or set it to null."),
};

const ELSE = unsafe(GET_AGAIN);

function ruleOf(check: string): CheckRule {
  return Object.hasOwn(RULES, check) ? (RULES[check] ?? ELSE) : ELSE;
}

/**
 * The setting that can tolerate a finding; undefined if there is none. No setting tolerates an
 * encryption without a name in the policy, such as AES in a qcow2.
 */
function toleranceOf(check: string, finding: Finding): Tolerance | undefined {
  if (check === "encryption" && finding.encryption === undefined) return undefined;
  return ruleOf(check).tolerance;
}

/** True if a failed check refuses the image. A check that the policy tolerates is only reported. */
export function heldAgainst(check: string, finding: Finding, policy: FormatPolicy): boolean {
  return toleranceOf(check, finding)?.isGranted(policy, finding) !== true;
}

/** The reason of a check that refuses an image, with the setting that would accept the image. */
export function withSetting(check: string, finding: Finding): string {
  const tolerance = toleranceOf(check, finding);
  // Usually the user corrects a wrong declaration. So only the hint names the setting.
  if (tolerance === undefined || check === "declared_format") return finding.reason;
  return `${finding.reason} (\`${tolerance.setting}\`)`;
}

/**
 * The way out for the user whose image fails a check: what to do with the image, and the setting
 * that would accept it.
 */
export function wayOut(check: string, finding: Finding): string {
  const tolerance = toleranceOf(check, finding);
  const hint = finding.hint ?? ruleOf(check).hint;
  // The setting does not help with a file of another kind, such as a compressed one, whose finding
  // has a hint of its own.
  const isBetterKnown = check === "declared_format" && finding.hint !== undefined;
  if (tolerance === undefined || isBetterKnown) return hint.endsWith(".") ? hint : `${hint}.`;
  return `${hint.replace(/\.$/, "")}; or ${tolerance.change(finding)} in the worker's configuration.`;
}

/**
 * Selects the checks that an error names: a check that makes all others pointless stands alone.
 *
 * @param refused - names of the checks that refuse an image
 */
export function reportedChecks(refused: readonly string[]): {
  readonly code: ImportFailureCode;
  readonly checks: readonly string[];
} {
  const first = Object.keys(RULES).find((check) => refused.includes(check) && ruleOf(check).alone);
  return first === undefined
    ? { code: "UnsafeImage", checks: refused }
    : { code: ruleOf(first).code, checks: [first] };
}
