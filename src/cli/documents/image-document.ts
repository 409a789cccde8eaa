import { z } from "zod";
import type { ImageView } from "../../client/image-view.ts";
import { VISIBILITIES } from "../../domain/visibility.ts";

/** The answer of `image show`, and one image of `image list`. */
export const imageDocument: z.ZodType<ImageView> = z
  .strictObject({
    id: z.guid(),
    name: z.string().nullable(),
    owner: z.string().nullable(),
    status: z.string().describe("queued, uploading, importing, active, deactivated, …"),
    disk_format: z.string().nullable(),
    container_format: z.string().nullable(),
    visibility: z.enum(VISIBILITIES).describe("who sees it over HTTP"),
    protected: z.boolean().describe("it cannot be deleted, and its staged data cannot be replaced"),
    os_hidden: z.boolean().describe("lists over HTTP leave it out unless they ask for it"),
    min_disk: z.int().describe("disk that a machine needs to boot it, in GiB"),
    min_ram: z.int().describe("memory that a machine needs to boot it, in MiB"),
    size: z.int().nullable().describe("in bytes; null while it is unknown"),
    virtual_size: z.int().nullable().describe("in bytes"),
    checksum: z.string().nullable().describe("MD5"),
    os_hash_algo: z.string().nullable(),
    os_hash_value: z.string().nullable(),
    stores: z.array(z.string()),
    locations: z.array(
      z.strictObject({
        store: z.string(),
        url: z.string(),
        damage: z.string().nullable().describe("the difference found by its last check"),
      }),
    ),
    os_glance_importing_to_stores: z.array(z.string()),
    os_glance_failed_import: z.array(z.string()),
    is_direct_upload: z.boolean().meta({
      description:
        "True from the start of an upload that is imported automatically until the end of that import.",
    }),
    os_glance_import_task: z.uuid().nullable(),
    properties: z.record(z.string(), z.string()),
    tags: z.array(z.string()),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: "image", description: "The answer of `image show`, and one image of `image list`" });
