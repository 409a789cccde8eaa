import type { ImageView } from "../../src/client/image-view.ts";

/** An image as the client shows it, queued unless something else is given. */
export function shownImage(given: Partial<ImageView> = {}): ImageView {
  return {
    id: "6d2f0000-0000-4000-8000-000000000001",
    name: "an image",
    owner: "ours",
    status: "queued",
    visibility: "shared",
    protected: false,
    os_hidden: false,
    min_disk: 0,
    min_ram: 0,
    disk_format: null,
    container_format: null,
    size: null,
    virtual_size: null,
    checksum: null,
    os_hash_algo: null,
    os_hash_value: null,
    stores: [],
    locations: [],
    is_direct_upload: false,
    os_glance_importing_to_stores: [],
    os_glance_failed_import: [],
    os_glance_import_task: null,
    properties: {},
    tags: [],
    created_at: "2026-08-21T12:34:56.789Z",
    updated_at: "2026-08-21T12:34:56.789Z",
    ...given,
  };
}
