import type { ImageView, TaskView } from "../client/image-view.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { formatAge, formatInstant } from "../domain/instant.ts";
import type { ListColumn } from "./list-text.ts";

/** The columns of `image list`. */
export function imageColumns(now = new Date()): ListColumn<ImageView>[] {
  return [
    { name: "id", value: ({ id }) => id },
    { name: "name", value: ({ name }) => name, minWidth: 8 },
    { name: "owner", value: ({ owner }) => owner, minWidth: 5 },
    { name: "status", value: ({ status }) => status },
    { name: "disk_format", heading: "FORMAT", value: (image) => image.disk_format },
    { name: "container_format", heading: "CONTAINER", value: (image) => image.container_format },
    { name: "visibility", value: ({ visibility }) => visibility },
    { name: "protected", value: (image) => image.protected },
    { name: "hidden", value: (image) => image.os_hidden },
    { name: "min_disk", value: (image) => image.min_disk },
    { name: "min_ram", value: (image) => image.min_ram },
    { name: "size", value: ({ size }) => size, text: ({ size }) => sizeText(size) },
    {
      name: "virtual_size",
      value: (image) => image.virtual_size,
      text: (image) => sizeText(image.virtual_size),
    },
    { name: "stores", value: ({ stores }) => stores, minWidth: 6 },
    { name: "tags", value: ({ tags }) => tags, minWidth: 6 },
    { name: "properties", value: ({ properties }) => properties, minWidth: 10 },
    { name: "checksum", value: ({ checksum }) => checksum },
    { name: "os_hash_algo", value: (image) => image.os_hash_algo },
    { name: "os_hash_value", value: (image) => image.os_hash_value },
    { name: "import_task", value: (image) => image.os_glance_import_task },
    ...timeColumns(now),
  ];
}

/** The columns of `image list` that are shown by default. */
export const USUAL_IMAGE_COLUMNS = [
  ...["id", "name", "owner", "status", "disk_format", "size", "stores", "age"],
];

/** The columns of `task list`. */
export function taskColumns(now = new Date()): ListColumn<TaskView>[] {
  return [
    { name: "id", value: ({ id }) => id },
    // May be cut: the beginning of an id also names the image.
    { name: "image_id", heading: "IMAGE", value: (task) => task.image_id, minWidth: 9 },
    { name: "owner", value: ({ owner }) => owner, minWidth: 5 },
    { name: "status", value: ({ status }) => status },
    { name: "code", value: ({ failure }) => failure?.code ?? null },
    { name: "message", value: ({ message }) => message, minWidth: 10 },
    { name: "run_id", value: (task) => task.run_id },
    ...timeColumns(now),
  ];
}

/** The columns of `task list` that are shown by default. */
export const USUAL_TASK_COLUMNS = ["id", "image_id", "status", "age", "message"];

function timeColumns(
  now: Date,
): ListColumn<{ readonly created_at: string; readonly updated_at: string }>[] {
  const age = (from: string): string => formatAge(new Date(from), now);
  return [
    {
      name: "created_at",
      heading: "CREATED",
      value: (row) => row.created_at,
      text: (row) => formatInstant(new Date(row.created_at), now),
    },
    {
      name: "updated_at",
      heading: "UPDATED",
      value: (row) => row.updated_at,
      text: (row) => formatInstant(new Date(row.updated_at), now),
    },
    { name: "age", value: (row) => age(row.created_at) },
  ];
}

function sizeText(size: number | null): string {
  return size === null ? "-" : formatBytes(size);
}
