import {
  CONTAINER_FORMATS,
  DISK_FORMATS,
  type ContainerFormat,
  type DiskFormat,
} from "./disk-format.ts";

/** The `createType` of VMDKs that contain their data. No other type is ever accepted. */
export const VMDK_TYPES = ["monolithicSparse", "streamOptimized"] as const;

/** The `createType` of a VMDK that contains its data. */
export type VmdkType = (typeof VMDK_TYPES)[number];

/** Ways of encryption that can be accepted. The encrypted content is not judged. */
export const ENCRYPTIONS = ["luks1", "luks2", "qcow2_luks"] as const;

/** A way of encryption that can be accepted. */
export type Encryption = (typeof ENCRYPTIONS)[number];

/**
 * Checks that find unusual partition tables, which can be reported or refused: `mbr` of boot
 * sectors, `gpt` of headers and their copies. Truncated partitions are always refused.
 */
export const PARTITION_CHECKS = ["mbr", "gpt"] as const;

/** The images that an operator accepts: the configurable part of the format verdict. */
export interface FormatPolicy {
  /** True if the bytes must have the declared format; otherwise a mismatch is only reported. */
  readonly requireImageFormatMatch: boolean;
  readonly diskFormats: readonly DiskFormat[];
  readonly containerFormats: readonly ContainerFormat[];
  readonly vmdkAllowedTypes: readonly VmdkType[];
  readonly allowedEncryption: readonly Encryption[];
  /** Checks of partitioned disks whose failures are reported and accepted. */
  readonly gptSafetyChecksNonfatal: readonly (typeof PARTITION_CHECKS)[number][];
  /** True if images are accepted that their last writer did not close. */
  readonly allowDirty: boolean;
  /** True if images with internal snapshots are accepted: earlier states of the disk. */
  readonly allowSnapshots: boolean;
  /** True if a text is accepted as a raw disk. */
  readonly allowText: boolean;
  /** The largest disk that a guest may see, in bytes. */
  readonly maxVirtualSizeBytes: number;
  /** The largest ratio of that disk's size to the image's size; null for any. */
  readonly maxVirtualRatio: number | null;
}

/**
 * The policy of an empty configuration. It refuses dangerous and incomplete images, and accepts
 * unusual ones.
 */
export const DEFAULT_FORMAT_POLICY: FormatPolicy = {
  requireImageFormatMatch: true,
  diskFormats: DISK_FORMATS,
  containerFormats: CONTAINER_FORMATS,
  vmdkAllowedTypes: VMDK_TYPES,
  allowedEncryption: ENCRYPTIONS,
  gptSafetyChecksNonfatal: PARTITION_CHECKS,
  // The next program that opens the image for writing repairs it.
  allowDirty: true,
  allowSnapshots: true,
  // A server that sends a text in place of an image is common; a disk that is a text is not.
  allowText: false,
  // The most that a VHDX can state.
  maxVirtualSizeBytes: 64 * 1024 ** 4,
  // An empty qcow2 of any size is a few hundred KiB. `maxVirtualSizeBytes`, the quotas and the
  // limits of transforms bound the rest.
  maxVirtualRatio: null,
};
