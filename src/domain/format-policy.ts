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

/** Ways of encryption that can be accepted; what is inside is then not judged. */
export const ENCRYPTIONS = ["luks1", "luks2", "qcow2_luks"] as const;

/** A way of encryption that can be accepted. */
export type Encryption = (typeof ENCRYPTIONS)[number];

/**
 * Checks of partition tables that find what is unusual, and that can be reported or held against a
 * disk: `mbr` of boot sectors, `gpt` of headers and their copies. Partitions that are cut off are
 * no such check.
 */
export const PARTITION_CHECKS = ["mbr", "gpt"] as const;

/** What an operator lets in: the part of the format verdict that is not about what an image is. */
export interface FormatPolicy {
  /** Whether the bytes must be of the declared format; else a mismatch is only told. */
  readonly requireImageFormatMatch: boolean;
  readonly diskFormats: readonly DiskFormat[];
  readonly containerFormats: readonly ContainerFormat[];
  readonly vmdkAllowedTypes: readonly VmdkType[];
  readonly allowedEncryption: readonly Encryption[];
  /** Checks that are told and not held against a partitioned disk. */
  readonly gptSafetyChecksNonfatal: readonly (typeof PARTITION_CHECKS)[number][];
  /** Whether images are accepted that their last writer did not close. */
  readonly allowDirty: boolean;
  /**
   * Whether images are accepted that hold internal snapshots: earlier states of the disk, which
   * come with it.
   */
  readonly allowSnapshots: boolean;
  /** The largest disk that a guest may see, in bytes. */
  readonly maxVirtualSizeBytes: number;
  /** How many times larger than the image that disk may be; null for any. */
  readonly maxVirtualRatio: number | null;
}

/**
 * The policy where nothing is configured. It refuses dangerous and incomplete images, and accepts
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
  // The most that a VHDX can state.
  maxVirtualSizeBytes: 64 * 1024 ** 4,
  // An empty qcow2 of any size is a few hundred KiB. `maxVirtualSizeBytes`, the quotas and the
  // limits of transforms bound the rest.
  maxVirtualRatio: null,
};
