import { InvalidArgumentError, Option, type Command } from "commander";
import type { ContainerFormat, DiskFormat } from "../../domain/disk-format.ts";
import { IMAGE_SORT_KEYS } from "../../domain/image-filter.ts";
import { IMAGE_STATUSES, type ImageStatus } from "../../domain/image-status.ts";
import {
  containerFormatOption,
  diskFormatOption,
  listOf,
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
