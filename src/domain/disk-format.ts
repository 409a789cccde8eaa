/** The layouts of a disk image: Glance's default list. */
export const DISK_FORMATS = [
  "ami",
  "ari",
  "aki",
  "vhd",
  "vhdx",
  "vmdk",
  "raw",
  "qcow2",
  "vdi",
  "iso",
  "ploop",
] as const;

/** The layout of a disk image. */
export type DiskFormat = (typeof DISK_FORMATS)[number];

/** The wrappers of a disk image: Glance's default list. `bare` means without a wrapper. */
export const CONTAINER_FORMATS = [
  "ami",
  "ari",
  "aki",
  "bare",
  "ovf",
  "ova",
  "docker",
  "compressed",
] as const;

/** The wrapper of a disk image. */
export type ContainerFormat = (typeof CONTAINER_FORMATS)[number];

/** True if this text names a disk format. */
export function isDiskFormat(text: string): text is DiskFormat {
  return (DISK_FORMATS as readonly string[]).includes(text);
}

/** True if this text names a container format. */
export function isContainerFormat(text: string): text is ContainerFormat {
  return (CONTAINER_FORMATS as readonly string[]).includes(text);
}
