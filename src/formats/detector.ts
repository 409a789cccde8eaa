import type { FormatPolicy } from "../domain/format-policy.ts";
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
  /** By the name of the check: the reason why the image fails it, a clause such as "it is a differencing vhd"; else undefined. */
  readonly checks: Readonly<Record<string, string | undefined>>;
}
