import { z } from "zod";
import { CONTAINER_FORMATS, DISK_FORMATS } from "../domain/disk-format.ts";
import {
  DEFAULT_FORMAT_POLICY,
  ENCRYPTIONS,
  PARTITION_CHECKS,
  VMDK_TYPES,
  type FormatPolicy,
} from "../domain/format-policy.ts";
import { bytes } from "./quantities.ts";

/** The section `formats` of the configuration file; names are Glance's where it has one. */
export const formatPolicy = z
  .strictObject({
    require_image_format_match: z
      .boolean()
      .default(DEFAULT_FORMAT_POLICY.requireImageFormatMatch)
      .meta({
        description:
          "Refuse an image whose bytes are not of the declared format. `false`: the mismatch is only reported.",
      }),
    disk_formats: listOf(DISK_FORMATS, DEFAULT_FORMAT_POLICY.diskFormats).meta({
      description: "The disk formats that may be imported.",
      default: "all",
    }),
    container_formats: listOf(CONTAINER_FORMATS, DEFAULT_FORMAT_POLICY.containerFormats).meta({
      description: "The container formats that may be imported.",
      default: "all",
    }),
    vmdk_allowed_types: listOf(VMDK_TYPES, DEFAULT_FORMAT_POLICY.vmdkAllowedTypes).meta({
      description:
        "The types of VMDK that may be imported. All other types refer to other files, and are never accepted.",
    }),
    allowed_encryption: listOf(ENCRYPTIONS, DEFAULT_FORMAT_POLICY.allowedEncryption).meta({
      description:
        "The kinds of encryption that are accepted. The content of an encrypted image is not checked.",
      default: "all",
    }),
    gpt_safety_checks_nonfatal: listOf(
      PARTITION_CHECKS,
      DEFAULT_FORMAT_POLICY.gptSafetyChecksNonfatal,
    ).meta({
      description:
        "The checks of partition tables whose findings are only reported. The findings of the others refuse the image.",
    }),
    allow_dirty: z.boolean().default(DEFAULT_FORMAT_POLICY.allowDirty).meta({
      description: "Accept an image that its last writer did not close.",
    }),
    allow_snapshots: z.boolean().default(DEFAULT_FORMAT_POLICY.allowSnapshots).meta({
      description: "Accept a qcow2 with internal snapshots. Their data stays in the image.",
    }),
    allow_text: z.boolean().default(DEFAULT_FORMAT_POLICY.allowText).meta({
      description:
        "Accept a text as a raw disk, as Glance does. `false`: it is refused, since a server may have sent it in place of the image.",
    }),
    max_virtual_size: bytes.default(DEFAULT_FORMAT_POLICY.maxVirtualSizeBytes).meta({
      description: "The largest disk that a guest may see.",
    }),
    max_virtual_ratio: z
      .number()
      .min(1)
      .nullable()
      .default(DEFAULT_FORMAT_POLICY.maxVirtualRatio)
      .meta({
        description:
          "The largest ratio of the size of the disk that a guest sees to the size of the image.",
        values: "number from 1 on, or `null` for no limit",
        default: "no limit",
      }),
  })
  .prefault({})
  .transform((formats): FormatPolicy => ({
    requireImageFormatMatch: formats.require_image_format_match,
    diskFormats: formats.disk_formats,
    containerFormats: formats.container_formats,
    vmdkAllowedTypes: formats.vmdk_allowed_types,
    allowedEncryption: formats.allowed_encryption,
    gptSafetyChecksNonfatal: formats.gpt_safety_checks_nonfatal,
    allowDirty: formats.allow_dirty,
    allowSnapshots: formats.allow_snapshots,
    allowText: formats.allow_text,
    maxVirtualSizeBytes: formats.max_virtual_size,
    maxVirtualRatio: formats.max_virtual_ratio,
  }));

/** A list of names. One in the file replaces the default, and does not add to it. */
function listOf<const Name extends string>(names: readonly Name[], fallback: readonly Name[]) {
  return z.array(z.enum(names)).default([...fallback]);
}
