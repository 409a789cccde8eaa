import type {
  HistoryEntry,
  ImportedEvent,
  RanTransform,
  RecordedBytes,
  RecordedRequest,
} from "../domain/image-history.ts";
import { formatInstant } from "../domain/instant.ts";
import { exactSize, fields, type Field } from "./render.ts";

/**
 * The history of an image, a block for each event.
 *
 * @param width - columns into which long values wrap; default: they are not wrapped
 */
export function historyText(
  entries: readonly HistoryEntry[],
  width: number | undefined,
  now = new Date(),
): string {
  if (entries.length === 0) return "nothing is recorded\n";
  return entries.map((entry) => fields(entryFields(entry, now).filter(isKnown), width)).join("\n");
}

function entryFields(entry: HistoryEntry, now: Date): Field[] {
  const first: Field[] = [["event", entry.event.replace("_", " ")], timeField("at", entry.at, now)];
  switch (entry.event) {
    case "imported":
      return [...first, ...requestFields(entry, now), ...imageFields(entry), ...storeFields(entry)];
    case "copied":
      return [...first, ...requestFields(entry, now), ...storeFields(entry)];
    case "copy_removed":
      return [...first, ...storeFields(entry)];
    case "deactivated":
    case "reactivated":
      return first;
  }
}

function requestFields(request: RecordedRequest, now: Date): Field[] {
  return [
    timeField("accepted_at", request.accepted_at, now),
    ["owner", request.owner],
    ["user", request.user_id],
    ["roles", request.roles.length === 0 ? null : request.roles.join(", ")],
    ["method", request.method],
    ["source", request.source],
    ["expected_checksum", request.expected_checksum],
    ["task", request.task_id],
    ["run", request.run_id],
    ["request_id", request.request_id],
    ["version", request.version],
  ];
}

function imageFields(image: ImportedEvent): Field[] {
  const { before, after, transforms, verdict } = image;
  return [
    ["name", image.name],
    ["disk_format", image.disk_format],
    ["container_format", image.container_format],
    ...(before === null ? [] : bytesFields("before", before)),
    ...bytesFields("after", after),
    ["virtual_size", image.virtual_size === null ? null : exactSize(image.virtual_size)],
    ...(transforms ?? []).map((each): Field => [`transform ${each.name}`, transformText(each)]),
    ["detected_format", verdict?.detected_format ?? null],
    ...Object.entries(verdict?.checks ?? {}).map(([name, result]): Field => [
      `check ${name}`,
      result,
    ]),
  ];
}

function bytesFields(which: string, bytes: RecordedBytes): Field[] {
  return [
    [`${which}: size`, bytes.size === null ? null : exactSize(bytes.size)],
    [`${which}: md5`, bytes.checksum],
    [`${which}: ${bytes.os_hash_algo ?? "digest"}`, bytes.os_hash_value],
  ];
}

function transformText({
  has_product: hasProduct,
  disk_format: format,
  tool,
}: RanTransform): string {
  if (!hasProduct) return "left the bytes as they were";
  return tool === null ? `made ${format}` : `made ${format} with ${tool}`;
}

function storeFields({ stores }: Pick<RecordedRequest, "stores">): Field[] {
  return stores.map(({ store, url }): Field => [`in ${store}`, url]);
}

function timeField(name: string, iso: string | null, now: Date): Field {
  return [name, iso === null ? null : formatInstant(new Date(iso), now)];
}

/** True if a field has a value; one without has no line, because most events lack something. */
function isKnown([, value]: Field): boolean {
  return value !== null && value !== undefined;
}
