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
  | "udf"
  | "qed"
  | "composite"
  | "text"
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
  | "sparseimage"
  | "asif"
  | "android_sparse"
  | "ewf"
  | "aff"
  | "chd"
  | "partclone"
  | "partimage"
  | "ghost"
  | "acronis"
  | "sdi"
  | "cso"
  | "daa"
  | "isz"
  | "mds"
  | "uif"
  | "nrg"
  | "cdi"
  | "cd_sectors"
  | "gzip"
  | "zstd"
  | "zstd_dictionary"
  | "xz"
  | "bzip2"
  | "lz4"
  | "lzma"
  | "lzop"
  | "lzip"
  | "lrzip"
  | "rzip"
  | "snappy"
  | "compress"
  | "pack"
  | "zip"
  | "7z"
  | "rar"
  | "tar"
  | "cpio"
  | "ar"
  | "rpm"
  | "cab"
  | "xar"
  | "arj"
  | "lha"
  | "wim"
  | "android_update"
  | "zfs_stream"
  | "btrfs_stream"
  | "xfsdump"
  | "memory_state"
  | "memory_dump"
  | "document";

/** A format that is no disk format of ours. */
export interface Foreign {
  /** A noun with its article, such as "gzip data". */
  readonly what: string;
  readonly kind: "disk" | "compressed" | "archive" | "other";
  /** The way to a disk that can be imported, as a sentence. */
  readonly wayOut: string;
}

/** Knows one format. */
export interface Detector {
  readonly format: RecognisedFormat;
  /** Absent for a disk format of ours. */
  readonly foreign?: Foreign;
  /** Whether its mark counts only in an image that carries no other one. Default: false. */
  readonly isWeak?: boolean;
  /** Whether the image carries the mark of the format. */
  matches(image: ImageBytes): boolean;
  /**
   * Formats whose marks may stand in an image of this format and mean nothing then. Default: none.
   */
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
  /**
   * The size of the disk that a guest would see, in bytes; null where the header does not say it.
   */
  readonly virtualSizeBytes: bigint | number | null;
  /**
   * By the name of the check: why the image fails it, or undefined when it passes. Whether the
   * policy tolerates a failed check is not the detector's to decide: `check-rules.ts` is.
   */
  readonly checks: Readonly<Record<string, string | Finding | undefined>>;
}

/**
 * The reason why an image fails a check. A finding without more to say than its reason is a plain
 * string.
 */
export interface Finding {
  /** A clause such as "it is a differencing vhd". */
  readonly reason: string;
  /** The way out, where it is another than the one of the check in `check-rules.ts`. */
  readonly hint?: string;
  /** Of the check `encryption`: the way, where a policy can allow it. */
  readonly encryption?: Encryption;
}

/**
 * A finding of bytes that are missing: an image that ends too early has come through a transfer
 * that broke.
 */
export function cutOff(reason: string): Finding {
  return {
    reason,
    hint: "Download or copy the image again, and compare its size and checksum with those that its publisher states.",
  };
}
