/** How a disk image is laid out: Glance's default list. */
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

/** How a disk image is laid out. */
export type DiskFormat = (typeof DISK_FORMATS)[number];

/** What a disk image is wrapped in: Glance's default list. `bare` is no wrapper. */
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

/** What a disk image is wrapped in. */
export type ContainerFormat = (typeof CONTAINER_FORMATS)[number];

/** Whether this text names a disk format. */
export function isDiskFormat(text: string): text is DiskFormat {
  return (DISK_FORMATS as readonly string[]).includes(text);
}

/** Whether this text names a container format. */
export function isContainerFormat(text: string): text is ContainerFormat {
  return (CONTAINER_FORMATS as readonly string[]).includes(text);
}
