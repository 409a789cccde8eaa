import {
  CONTAINER_FORMATS,
  DISK_FORMATS,
  type ContainerFormat,
  type DiskFormat,
} from "./disk-format.ts";

/** VMDKs that hold their data themselves: no other type is ever accepted. */
export const VMDK_TYPES = ["monolithicSparse", "streamOptimized"] as const;

/** Ways of encryption that can be accepted; what is inside is then not judged. */
export const ENCRYPTIONS = ["luks1", "luks2", "qcow2_luks"] as const;

/** Checks of partition tables that can be made to matter less. */
export const PARTITION_CHECKS = ["mbr"] as const;

/** What an operator lets in: the part of the format verdict that is not about what an image is. */
export interface FormatPolicy {
  /** Whether the bytes must be of the declared format; else a mismatch is only told. */
  readonly requireImageFormatMatch: boolean;
  readonly diskFormats: readonly DiskFormat[];
  readonly containerFormats: readonly ContainerFormat[];
  readonly vmdkAllowedTypes: readonly (typeof VMDK_TYPES)[number][];
  readonly allowedEncryption: readonly (typeof ENCRYPTIONS)[number][];
  /** Checks that are told and not held against a partitioned disk. */
  readonly gptSafetyChecksNonfatal: readonly (typeof PARTITION_CHECKS)[number][];
  /** Whether images are accepted that their last writer did not close. */
  readonly allowDirty: boolean;
  /** The largest disk that a guest may see, in bytes. */
  readonly maxVirtualSizeBytes: number;
  /** How many times larger than the image that disk may be. */
  readonly maxVirtualRatio: number;
}

/** What holds where nothing is configured. */
export const DEFAULT_FORMAT_POLICY: FormatPolicy = {
  requireImageFormatMatch: true,
  diskFormats: DISK_FORMATS,
  containerFormats: CONTAINER_FORMATS,
  vmdkAllowedTypes: VMDK_TYPES,
  // The one that QEMU reads, and that Glance accepts.
  allowedEncryption: ["luks1"],
  gptSafetyChecksNonfatal: [],
  allowDirty: false,
  // The most that a VHDX can state.
  maxVirtualSizeBytes: 64 * 1024 ** 4,
  // 1 TiB in 1 MiB. An empty qcow2 of 100 GiB takes a half of it.
  maxVirtualRatio: 1024 ** 2,
};
