import type { ImageView, TaskView } from "../client/image-view.ts";
import { formatExactBytes } from "../domain/byte-size.ts";
import { formatInstant } from "../domain/instant.ts";
import { printable, printableJson } from "./printable.ts";
import { Table } from "./table.ts";
import { padded, widthOf, wrapped } from "./wrapped.ts";

/** One line of {@link fields}: name and value; null and undefined are shown as `-`. */
export type Field = readonly [name: string, value: string | number | null | undefined];

/** The text of one JSON document, ended by a newline. */
export function json(document: unknown): string {
  return `${printableJson(document, 2)}\n`;
}

/** A table with a heading, columns aligned on the left. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const laidOut = new Table(heading.map((each) => ({ heading: each })));
  laidOut.makeRoom(rows);
  return laidOut.heading() + laidOut.lines(rows);
}

/**
 * Names and values, one a line, the values aligned.
 *
 * @param width - columns into which long values wrap; default: they are not wrapped
 */
export function fields(entries: readonly Field[], width?: number): string {
  if (width !== undefined) return wrappedFields(entries, width);
  const rows = entries.map(([name, value]) => [name, value == null ? "-" : String(value)]);
  const laidOut = new Table([{ heading: "" }, { heading: "" }]);
  laidOut.makeRoom(rows);
  return laidOut.lines(rows);
}

function wrappedFields(entries: readonly Field[], width: number): string {
  const nameWidth = Math.max(0, ...entries.map(([name]) => widthOf(printable(name))));
  return entries
    .flatMap(([name, value]) =>
      wrapped(
        `${padded(printable(name), nameWidth)}  ${value == null ? "-" : printable(String(value))}`,
        width,
        // In a narrow terminal the values would have no room beside the names.
        width < 2 * nameWidth + 40 ? 2 : nameWidth + 2,
      ),
    )
    .map((line) => `${line}\n`)
    .join("");
}

/** `1.5 GiB (1610612736 bytes)`, or `-` if it is unknown. */
export function exactSize(sizeBytes: number | null): string {
  return sizeBytes === null ? "-" : formatExactBytes(sizeBytes);
}

/** A time in the zone of this machine, and how long ago it was. */
function timeText(iso: string, now: Date): string {
  return formatInstant(new Date(iso), now);
}

/** All fields of an image. */
export function imageFields(image: ImageView, now = new Date()): string {
  return fields([
    ["id", image.id],
    ["name", image.name],
    ["owner", image.owner],
    ["status", image.status],
    ["disk_format", image.disk_format],
    ["container_format", image.container_format],
    ["visibility", image.visibility],
    ["protected", image.protected ? "yes" : "no"],
    ...(image.os_hidden ? [["hidden", "yes"] as const] : []),
    ...(image.min_disk === 0 ? [] : [["min_disk", `${String(image.min_disk)} GiB`] as const]),
    ...(image.min_ram === 0 ? [] : [["min_ram", `${String(image.min_ram)} MiB`] as const]),
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
    ["created_at", timeText(image.created_at, now)],
    ["updated_at", timeText(image.updated_at, now)],
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

/** All fields of a task. */
export function taskFields(task: TaskView, now = new Date()): string {
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
    ["created_at", timeText(task.created_at, now)],
    ["updated_at", timeText(task.updated_at, now)],
    ["expires_at", task.expires_at === null ? null : timeText(task.expires_at, now)],
  ]);
}
