import type { PositionalReader } from "../../src/bytes/positional-io.ts";
import { DEFAULT_FORMAT_POLICY, type FormatPolicy } from "../../src/domain/format-policy.ts";
import type { DeclaredFormats } from "../../src/formats/declared-format.ts";
import { judgeImage, type Verdict } from "../../src/formats/judge-image.ts";

/** Bytes as an open file gives them. */
export function readerOf(bytes: Buffer): PositionalReader {
  return {
    read: async (buffer, offset, length, position) => ({
      bytesRead: bytes.copy(buffer, offset, Math.min(position, bytes.length), position + length),
    }),
  };
}

/** A policy that tolerates nothing. */
export const STRICT: Partial<FormatPolicy> = {
  allowedEncryption: [],
  gptSafetyChecksNonfatal: [],
  allowDirty: false,
  allowSnapshots: false,
};

/** The verdict on these bytes. @param policy - what is not the default */
export async function judged(
  bytes: Buffer,
  policy: Partial<FormatPolicy> = {},
  declared?: DeclaredFormats,
): Promise<Verdict> {
  const all = { ...DEFAULT_FORMAT_POLICY, ...policy };
  return judgeImage(readerOf(bytes), bytes.length, all, declared);
}

/** The checks that failed, tolerated or not: reasons by the names of the checks. */
export function failuresOf({ checks }: Verdict): Record<string, string> {
  return Object.fromEntries(Object.entries(checks).filter(([, result]) => result !== "pass"));
}
