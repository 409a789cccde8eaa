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
    require_image_format_match: z.boolean().default(DEFAULT_FORMAT_POLICY.requireImageFormatMatch),
    disk_formats: listOf(DISK_FORMATS, DEFAULT_FORMAT_POLICY.diskFormats),
    container_formats: listOf(CONTAINER_FORMATS, DEFAULT_FORMAT_POLICY.containerFormats),
    vmdk_allowed_types: listOf(VMDK_TYPES, DEFAULT_FORMAT_POLICY.vmdkAllowedTypes),
    allowed_encryption: listOf(ENCRYPTIONS, DEFAULT_FORMAT_POLICY.allowedEncryption),
    gpt_safety_checks_nonfatal: listOf(
      PARTITION_CHECKS,
      DEFAULT_FORMAT_POLICY.gptSafetyChecksNonfatal,
    ),
    allow_dirty: z.boolean().default(DEFAULT_FORMAT_POLICY.allowDirty),
    allow_snapshots: z.boolean().default(DEFAULT_FORMAT_POLICY.allowSnapshots),
    max_virtual_size: bytes.default(DEFAULT_FORMAT_POLICY.maxVirtualSizeBytes),
    max_virtual_ratio: z.number().min(1).nullable().default(DEFAULT_FORMAT_POLICY.maxVirtualRatio),
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
    maxVirtualSizeBytes: formats.max_virtual_size,
    maxVirtualRatio: formats.max_virtual_ratio,
  }));

/** Names out of a closed list; a list of its own replaces the default. */
function listOf<const Name extends string>(names: readonly Name[], fallback: readonly Name[]) {
  return z.array(z.enum(names)).default([...fallback]);
}
