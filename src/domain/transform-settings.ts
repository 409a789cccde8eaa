import type { VmdkType } from "./format-policy.ts";

/** Settings of `decompress`. Each has a default. */
export interface DecompressSettings {
  /** The largest ratio of the product's size to that of the compressed image. Default: 64. */
  readonly maxRatio?: number;
  /** The ratio counts only for products larger than this, in bytes. Default: 64 MiB. */
  readonly ratioFreeBytes?: number;
  /**
   * Memory that zstd and xz may use for their windows, in bytes; zstd never more than 128 MiB.
   * Default: 256 MiB.
   */
  readonly memoryBytes?: number;
  /** Time limit, in ms. Default: 6 h. */
  readonly timeLimitMs?: number;
  /** The program `zstd`, by name or path. Default: `zstd` on PATH. */
  readonly zstd?: string;
  /** The program `xz`, by name or path. Default: `xz` on PATH. */
  readonly xz?: string;
}

/** The formats that `convert` can write. */
export const CONVERSION_TARGETS = ["raw", "qcow2", "vmdk"] as const;

/** Settings of `convert`: its target and limits. */
export interface ConvertSettings {
  /** The format of the product. */
  readonly target: (typeof CONVERSION_TARGETS)[number];
  /** The type of a VMDK that is written. Default: `monolithicSparse`. */
  readonly vmdkType?: VmdkType;
  /** The types of VMDKs that are read. Default: both. */
  readonly vmdkAllowedTypes?: readonly VmdkType[];
  /** Address space of qemu-img, in bytes. Default: 1 GiB. */
  readonly memoryBytes?: number;
  /** Time limit, in ms. Default: 6 h. */
  readonly timeLimitMs?: number;
  /** The program `qemu-img`, by name or path. Default: `qemu-img` on PATH. */
  readonly qemuImg?: string;
}

/** Settings of `inject_metadata`. */
export interface InjectMetadataSettings {
  readonly properties: Readonly<Record<string, string>>;
  /** Nothing is set if the user who requests the import has one of these roles. */
  readonly ignoreUserRoles: readonly string[];
}

/** The settings of all transforms; all paths are absolute. */
export interface TransformSettings {
  /** In the order in which they run: a name, or the path of a module of the operator. */
  readonly order: readonly (string | { readonly module: string })[];
  readonly decompress: DecompressSettings;
  readonly convert: ConvertSettings;
  readonly injectMetadata: InjectMetadataSettings;
}
