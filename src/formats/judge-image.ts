import type { PositionalReader } from "../bytes/positional-io.ts";
import type { FormatPolicy } from "../domain/format-policy.ts";
import { BANNED_DETECTORS } from "./banned.ts";
import { isWrapped, type DeclaredFormats } from "./declared-format.ts";
import { heldAgainst, wayOut, withSetting } from "./check-rules.ts";
import {
  cutOff,
  type Detector,
  type Examination,
  type Finding,
  type RecognisedFormat,
} from "./detector.ts";
import { FOREIGN_DETECTORS } from "./foreign.ts";
import { BrokenImage, ImageBytes } from "./image-bytes.ts";
import { iso } from "./iso.ts";
import { luks } from "./luks.ts";
import { gpt, mbr } from "./partition-table.ts";
import { formatChecks, sizeChecks } from "./policy-checks.ts";
import { qcow2 } from "./qcow2.ts";
import { examineRaw } from "./raw.ts";
import { text } from "./text.ts";
import { udf } from "./udf.ts";
import { vdi } from "./vdi.ts";
import { vhd } from "./vhd.ts";
import { vhdx } from "./vhdx.ts";
import { vmdk } from "./vmdk.ts";

const DETECTORS: readonly Detector[] = [
  ...[qcow2, vmdk, vhd, vhdx, vdi, iso, udf, luks, gpt, mbr],
  ...BANNED_DETECTORS,
  ...FOREIGN_DETECTORS,
  text,
];

/** The result of the format check of an image. */
export interface Verdict {
  /** `ambiguous` when the image has the marks of several formats. */
  readonly format: RecognisedFormat | "ambiguous";
  /**
   * The size of the disk that a guest would see, in bytes; null where the header does not state it,
   * or beyond 2^53.
   */
  readonly virtualSizeBytes: number | null;
  readonly sizeBytes: number;
  /** True if every check passed or is tolerated by the policy. */
  readonly safe: boolean;
  /**
   * The checks that were made: `pass`, or the reason why the image fails, a clause such as "it is a
   * differencing vhd".
   */
  readonly checks: Readonly<Record<string, string>>;
  /** The failed checks that the policy tolerates. */
  readonly tolerated: readonly string[];
  /** The way out of each check that refuses the image. */
  readonly hints: Readonly<Record<string, string>>;
  /** The number of bytes that were read. */
  readonly bytesRead: number;
}

/**
 * Judges an image. It reads the start, the end, the places that the header refers to, and the
 * tables of blocks, piece by piece: usually less than a thousandth of the image, and never
 * more than a few times its size.
 *
 * @param reader - the image, open for reading
 * @param declared - the declared formats. Default: the image is judged as the format that it has
 * @returns the verdict, also if it refuses the image
 * @throws the system's own error when the image cannot be read
 * @internal
 */
export async function judgeImage(
  reader: PositionalReader,
  sizeBytes: number,
  policy: FormatPolicy,
  declared?: DeclaredFormats,
): Promise<Verdict> {
  const image = await ImageBytes.open(reader, sizeBytes);
  const found = recognise(image, policy);
  const { virtualSizeBytes, checks: ownChecks } = await examine(image, found, policy);
  // The size of a disk inside a container is not known.
  const isOpaque = declared !== undefined && isWrapped(declared);
  const size = isOpaque ? null : virtualSizeBytes;
  const checks = {
    one_format: oneFormatProblem(found),
    content: sizeBytes === 0 ? EMPTY : undefined,
    ...formatChecks(found[0], policy, declared),
    ...ownChecks,
    ...sizeChecks(size, sizeBytes, policy),
  };
  const failed = Object.entries(checks).flatMap(([check, finding]) =>
    finding === undefined ? [] : [{ check, finding: findingOf(finding) }],
  );
  const refused = failed.filter(({ check, finding }) => heldAgainst(check, finding, policy));
  return {
    format: found.length > 1 ? "ambiguous" : (found[0]?.format ?? "raw"),
    virtualSizeBytes: size === null || size > Number.MAX_SAFE_INTEGER ? null : Number(size),
    sizeBytes,
    safe: refused.length === 0,
    checks: Object.fromEntries([
      ...Object.keys(checks).map((check) => [check, "pass"] as const),
      ...failed.map(({ check, finding }) => [check, finding.reason] as const),
      ...refused.map(({ check, finding }) => [check, withSetting(check, finding)] as const),
    ]),
    tolerated: failed.filter((each) => !refused.includes(each)).map(({ check }) => check),
    hints: Object.fromEntries(
      refused.map(({ check, finding }) => [check, wayOut(check, finding)] as const),
    ),
    bytesRead: image.bytesRead,
  };
}

const EMPTY: Finding = {
  reason: "it is empty",
  hint: "Supply its data again: the download, the program or the transform that wrote it ended without a byte.",
};

function findingOf(finding: string | Finding): Finding {
  return typeof finding === "string" ? { reason: finding } : finding;
}

/** The formats whose marks the image has, without those that another format covers. */
function recognise(image: ImageBytes, { allowText }: FormatPolicy): readonly Detector[] {
  const marked = DETECTORS.filter(
    (each) => !(allowText && each.format === "text") && each.matches(image),
  );
  const strong = marked.filter(({ isWeak = false }) => !isWeak);
  const matching = strong.length > 0 ? strong : marked.slice(0, 1);
  const covered = matching.flatMap((each) => each.covers?.(image) ?? []);
  return matching.filter(({ format }) => !covered.includes(format));
}

async function examine(
  image: ImageBytes,
  [detector, ...others]: readonly Detector[],
  policy: FormatPolicy,
): Promise<Examination> {
  if (others.length > 0) return { virtualSizeBytes: null, checks: {} };
  try {
    return await (detector?.examine(image, policy) ?? examineRaw(image));
  } catch (error) {
    if (!(error instanceof BrokenImage)) throw error;
    return {
      virtualSizeBytes: null,
      checks: { header: error.isCutOff ? cutOff(error.message) : error.message },
    };
  }
}

function oneFormatProblem(found: readonly Detector[]): string | undefined {
  if (found.length < 2) return undefined;
  // Two programs that open it could see two different disks, of which only one was judged.
  return `it has the marks of ${found.map(({ format }) => format).join(" and of ")}`;
}
