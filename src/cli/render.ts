import type { ImageView, TaskView } from "../client/image-view.ts";
import { formatBytes } from "../domain/byte-size.ts";

/** One line of {@link fields}: name and value; null and undefined are shown as `-`. */
export type Field = readonly [name: string, value: string | number | null | undefined];

/** The text of one JSON document, ended by a newline. */
export function json(document: unknown): string {
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** A table with a heading, columns aligned on the left. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [heading, ...rows];
  const widths = heading.map((_, column) =>
    Math.max(...lines.map((cells) => cells[column]?.length ?? 0)),
  );
  return lines.map((cells) => alignedLine(cells, widths)).join("");
}

/** Names and values, one a line, the values aligned. */
export function fields(entries: readonly Field[]): string {
  const widths = [Math.max(0, ...entries.map(([name]) => name.length))];
  return entries
    .map(([name, value]) => alignedLine([name, value == null ? "-" : String(value)], widths))
    .join("");
}

function alignedLine(cells: readonly string[], widths: readonly number[]): string {
  const padded = cells.map((cell, column) => cell.padEnd(widths[column] ?? 0));
  return `${padded.join("  ").trimEnd()}\n`;
}

/** `1.5 GiB (1610612736 bytes)`, or `-` if it is unknown. */
export function exactSize(sizeBytes: number | null): string {
  return sizeBytes === null ? "-" : `${formatBytes(sizeBytes)} (${String(sizeBytes)} bytes)`;
}

/** All fields of an image. */
export function imageFields(image: ImageView): string {
  return fields([
    ["id", image.id],
    ["name", image.name],
    ["owner", image.owner],
    ["status", image.status],
    ["disk_format", image.disk_format],
    ["container_format", image.container_format],
    ["size", exactSize(image.size)],
    ["virtual_size", exactSize(image.virtual_size)],
    ["checksum", image.checksum],
    ["os_hash_algo", image.os_hash_algo],
    ["os_hash_value", image.os_hash_value],
    ...image.locations.map(({ store, url, damage }): Field => [
      `in ${store}`,
      damage === null ? url : `${url} (damaged: ${damage})`,
    ]),
    ...importingFields(image),
    ...Object.entries(image.properties).map(([name, value]): Field => [`property ${name}`, value]),
    ["tags", image.tags.length === 0 ? null : image.tags.join(", ")],
    ["created_at", image.created_at],
    ["updated_at", image.updated_at],
  ]);
}

function importingFields(image: ImageView): Field[] {
  const { os_glance_importing_to_stores: importing, os_glance_failed_import: failed } = image;
  return [
    ...(importing.length === 0 ? [] : [["importing to", importing.join(", ")] as const]),
    ...(failed.length === 0 ? [] : [["failed import to", failed.join(", ")] as const]),
    ...(image.os_glance_import_task === null
      ? []
      : [["import task", image.os_glance_import_task] as const]),
  ];
}

/** One line per image. */
export function imageTable(images: readonly ImageView[]): string {
  return table(
    ["ID", "NAME", "STATUS", "FORMAT", "SIZE", "STORES"],
    images.map((image) => [
      image.id,
      image.name ?? "-",
      image.status,
      image.disk_format ?? "-",
      image.size === null ? "-" : formatBytes(image.size),
      image.stores.join(", ") || "-",
    ]),
  );
}

/** All fields of a task. */
export function taskFields(task: TaskView): string {
  return fields([
    ["id", task.id],
    ["type", task.type],
    ["status", task.status],
    ["image_id", task.image_id],
    ["owner", task.owner],
    ["workflow_id", task.workflow_id],
    ["run_id", task.run_id],
    ["input", JSON.stringify(task.input)],
    ["result", task.result === null ? null : JSON.stringify(task.result)],
    ["message", task.message || null],
    ...(task.failure?.hint === undefined ? [] : [["hint", task.failure.hint] as const]),
    ["created_at", task.created_at],
    ["updated_at", task.updated_at],
    ["expires_at", task.expires_at],
  ]);
}

/** One line per task. */
export function taskTable(tasks: readonly TaskView[]): string {
  return table(
    ["ID", "IMAGE", "STATUS", "CREATED", "MESSAGE"],
    tasks.map((task) => [task.id, task.image_id, task.status, task.created_at, task.message]),
  );
}
