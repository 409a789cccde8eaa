import { InvalidArgumentError, Option, type Command } from "commander";
import type { ContainerFormat, DiskFormat } from "../../domain/disk-format.ts";
import { IMAGE_SORT_KEYS, type TimeCondition } from "../../domain/image-filter.ts";
import { IMAGE_STATUSES, type ImageStatus } from "../../domain/image-status.ts";
import {
  containerFormatOption,
  diskFormatOption,
  listOf,
  numberOf,
  propertiesOf,
  sizeOf,
} from "../arguments.ts";
import {
  addAttributeOptions,
  attributesOf,
  CHOOSE_BY_ATTRIBUTES,
  type AttributeOptions,
} from "../image-attributes.ts";
import { imageColumns, USUAL_IMAGE_COLUMNS } from "../image-columns.ts";
import { addListOptions, answerList, pageOf, type ListOptions } from "../list-options.ts";
import { inSession, type Session } from "../session.ts";
import { timesOf } from "../time-condition.ts";

interface ImageListOptions extends ListOptions<(typeof IMAGE_SORT_KEYS)[number]>, AttributeOptions {
  readonly status?: ImageStatus;
  readonly owner?: string;
  readonly name?: string;
  readonly diskFormat?: DiskFormat;
  readonly containerFormat?: ContainerFormat;
  readonly store?: string;
  readonly tag?: readonly string[];
  readonly property?: Readonly<Record<string, string>>;
  readonly sizeMin?: number;
  readonly sizeMax?: number;
  readonly checksum?: string;
  readonly osHashValue?: string;
  readonly minDiskMin?: number;
  readonly minDiskMax?: number;
  readonly minRamMin?: number;
  readonly minRamMax?: number;
  readonly time?: readonly TimeCondition[];
}

/** `image list`: a choice of the images, as a table or for programs. */
export function addImageListCommand(image: Command): void {
  const command = image
    .command("list")
    .alias("ls")
    .description("list images, newest first")
    .addOption(
      new Option("--status <status>", "only images of this status").choices(IMAGE_STATUSES),
    )
    .option("--owner <owner>", "only images of this owner")
    .addOption(
      new Option(
        "--name <pattern>",
        "only images of this name; * is any text, ? any character, \\ takes the next one literally",
      ).argParser(patternOf),
    )
    .addOption(diskFormatOption("only images of this disk format"))
    .addOption(containerFormatOption("only images of this container format"))
    .option("--store <name>", "only images that can be read from this store")
    .option("--tag <tag>", "only images with this tag; may be repeated: with all of them", listOf)
    .option(
      "--property <name=value>",
      "only images with this property; may be repeated: with all of them",
      propertiesOf,
    )
    .addOption(new Option("--size-min <size>", "smallest size, such as 1GiB").argParser(sizeOf))
    .addOption(new Option("--size-max <size>", "largest size").argParser(sizeOf))
    .option("--checksum <md5>", "only images with this MD5")
    .option("--os-hash-value <digest>", "only images with this digest (os_hash_value)")
    .option(
      "--time <condition>",
      "only images whose time fits, to the second: `created_at` or `updated_at`, then gt, gte, lt, lte, eq or neq, then a time, such as created_at:gte:2026-01-31 or updated_at:lt:2h; may be repeated: all of them",
      timesOf,
    )
    .option("--min-disk-min <gib>", "smallest min_disk, in GiB", numberOf)
    .option("--min-disk-max <gib>", "largest min_disk, in GiB", numberOf)
    .option("--min-ram-min <mib>", "smallest min_ram, in MiB", numberOf)
    .option("--min-ram-max <mib>", "largest min_ram, in MiB", numberOf)
    .action(inSession(list));
  addAttributeOptions(command, CHOOSE_BY_ATTRIBUTES);
  addListOptions(command, IMAGE_SORT_KEYS, imageColumns());
}

function patternOf(value: string): string {
  if (!/(^|[^\\])(\\\\)*\\$/.test(value)) return value;
  throw new InvalidArgumentError("It ends with a \\ that has nothing to take literally.");
}

async function list(session: Session, options: ImageListOptions): Promise<void> {
  const { images } = await session.service();
  const marker = options.marker === undefined ? undefined : await images.resolve(options.marker);
  const filter = {
    ...pageOf(options),
    marker,
    status: options.status,
    owner: options.owner,
    namePattern: options.name,
    diskFormat: options.diskFormat,
    containerFormat: options.containerFormat,
    store: options.store,
    tags: options.tag,
    properties: options.property,
    sizeMin: options.sizeMin,
    sizeMax: options.sizeMax,
    checksum: options.checksum?.toLowerCase(),
    osHashValue: options.osHashValue?.toLowerCase(),
    minDiskMin: options.minDiskMin,
    minDiskMax: options.minDiskMax,
    minRamMin: options.minRamMin,
    minRamMax: options.minRamMax,
    times: options.time,
    ...attributesOf(options),
  };
  await answerList(
    session,
    {
      what: "images",
      columns: imageColumns(),
      usual: USUAL_IMAGE_COLUMNS,
      pages: (page) => images.pages({ ...filter, ...page }),
    },
    options,
  );
}
