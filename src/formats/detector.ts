import type { Encryption, FormatPolicy } from "../domain/format-policy.ts";
import type { ImageBytes } from "./image-bytes.ts";

/** A format that is recognised by its bytes. `raw` is whatever carries no known mark. */
export type RecognisedFormat =
  | "raw"
  | "qcow2"
  | "vmdk"
  | "vhd"
  | "vhdx"
  | "vdi"
  | "iso"
  | "qed"
  | "gpt"
  | "mbr"
  | "luks"
  | ForeignFormat;

/** Formats of others, which are recognised so that they are not taken for raw disks. */
export type ForeignFormat =
  | "parallels"
  | "cowd"
  | "bochs"
  | "cloop"
  | "dmg"
  | "gzip"
  | "zstd"
  | "xz"
  | "bzip2"
  | "lz4"
  | "zip"
  | "7z"
  | "rar"
  | "tar";

/** Knows one format. */
export interface Detector {
  readonly format: RecognisedFormat;
  /** Of a format that is no disk format of ours: what it is, such as "gzip data". */
  readonly foreign?: { readonly what: string; readonly kind: "disk" | "compressed" | "archive" };
  /** Whether the image carries the mark of the format. */
  matches(image: ImageBytes): boolean;
  /** Formats whose marks may stand in an image of this format and mean nothing then. Default: none. */
  covers?(image: ImageBytes): readonly RecognisedFormat[];
  /**
   * What the image says of itself. Called only for an image that matches.
   *
   * @throws BrokenImage when it can't be read far enough to tell
   */
  examine(image: ImageBytes, policy: FormatPolicy): Examination | Promise<Examination>;
}

/** What one detector found. */
export interface Examination {
  /** The size of the disk that a guest would see, in bytes; null where the header does not say it. */
  readonly virtualSizeBytes: bigint | number | null;
  /**
   * By the name of the check: why the image fails it, or undefined when it passes. Whether the policy
   * tolerates a failed check is not the detector's to decide: `check-rules.ts` is.
   */
  readonly checks: Readonly<Record<string, string | Finding | undefined>>;
}

/** The reason why an image fails a check. A finding without more to say than its reason is a plain string. */
export interface Finding {
  /** A clause such as "it is a differencing vhd". */
  readonly reason: string;
  /** The way out, where it is another than the one of the check in `check-rules.ts`. */
  readonly hint?: string;
  /** Of the check `encryption`: the way, where a policy can allow it. */
  readonly encryption?: Encryption;
}

/** A finding of bytes that are missing: an image that ends too early has come through a transfer that broke. */
export function cutOff(reason: string): Finding {
  return {
    reason,
    hint: "Download or copy the image again, and compare its size and checksum with those that its publisher states.",
  };
}
