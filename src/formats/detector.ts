import type { Encryption, FormatPolicy } from "../domain/format-policy.ts";
import type { ImageBytes } from "./image-bytes.ts";

/** A format that is recognised by its bytes. Bytes without a known mark are `raw`. */
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

/** Formats that cannot be imported, recognised so that their files are not taken for raw disks. */
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

/** The description of a format that cannot be imported. */
export interface Foreign {
  /** A noun, with its article if it has one, such as "a zip archive" or "gzip data". */
  readonly what: string;
  readonly kind: "disk" | "compressed" | "archive" | "other";
  /** The way to a disk that can be imported, as sentences. */
  readonly wayOut: string;
}

/** Recognises and examines one format. @internal */
export interface Detector {
  readonly format: RecognisedFormat;
  /** Absent for a format that can be imported. */
  readonly foreign?: Foreign;
  /** True if its mark counts only in an image that has no other mark. Default: false. */
  readonly isWeak?: boolean;
  /** True if the image has the mark of the format. */
  matches(image: ImageBytes): boolean;
  /** Formats whose marks have no meaning in an image of this format. Default: none. */
  covers?(image: ImageBytes): readonly RecognisedFormat[];
  /**
   * Examines an image that matches.
   *
   * @throws BrokenImage when its structures cannot be read
   */
  examine(image: ImageBytes, policy: FormatPolicy): Examination | Promise<Examination>;
}

/** The result of one detector. */
export interface Examination {
  /**
   * The size of the disk that a guest would see, in bytes; null where the header does not state it.
   */
  readonly virtualSizeBytes: bigint | number | null;
  /**
   * The findings by the names of checks; undefined for a check that the image passes. A detector
   * does not decide if the policy tolerates a finding: `check-rules.ts` does.
   */
  readonly checks: Readonly<Record<string, string | Finding | undefined>>;
}

/**
 * The reason why an image fails a check. Where there is only a reason, a finding is a plain string.
 */
export interface Finding {
  /** A clause such as "it is a differencing vhd". */
  readonly reason: string;
  /** The way out, where the one of the check in `check-rules.ts` does not fit. */
  readonly hint?: string;
  /** For the check `encryption`: the kind, if a policy can allow it. */
  readonly encryption?: Encryption;
}

/**
 * The finding of missing bytes. An image that ends too early usually comes from a broken transfer.
 */
export function cutOff(reason: string): Finding {
  return {
    reason,
    hint: "Download or copy the image again, and compare its size and checksum with those that its publisher states.",
  };
}
