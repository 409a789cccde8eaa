import type { Command } from "commander";
import { defaultOwner } from "../../config/environment.ts";
import type { ContainerFormat, DiskFormat } from "../../domain/disk-format.ts";
import { ImportError } from "../../domain/import-failure.ts";
import {
  containerFormatOption,
  diskFormatOption,
  imageArgument,
  imagesArgument,
  listOf,
  newIdOf,
  propertiesOf,
} from "../arguments.ts";
import { onEachImage } from "../each-image.ts";
import { UsageError } from "../failure.ts";
import { historyText } from "../history-text.ts";
import {
  addAttributeOptions,
  attributesOf,
  SET_ATTRIBUTES,
  type AttributeOptions,
} from "../image-attributes.ts";
import { fields, imageFields } from "../render.ts";
import { imageToRemoveFrom, namedImage } from "../named-image.ts";
import { inSession, type Session } from "../session.ts";
import { withWordOfWaiting } from "../waiting-for-a-worker.ts";
import { addImageByteCommands } from "./image-bytes.ts";
import { addImageListCommand } from "./image-list.ts";
import { addImageMemberCommands } from "./image-members.ts";
import { addCopyCommand } from "./copy.ts";
import { addStartCommand } from "./start.ts";

interface CreateOptions extends AttributeOptions {
  readonly name?: string;
  readonly diskFormat?: DiskFormat;
  readonly containerFormat?: ContainerFormat;
  readonly id?: string;
  readonly owner?: string;
  readonly property?: Readonly<Record<string, string>>;
  readonly tag?: readonly string[];
}

interface SetOptions extends AttributeOptions {
  readonly name?: string;
  readonly owner?: string;
  readonly diskFormat?: DiskFormat;
  readonly containerFormat?: ContainerFormat;
  readonly property?: Readonly<Record<string, string>>;
  readonly removeProperty?: readonly string[];
  readonly tag?: readonly string[];
  readonly removeTag?: readonly string[];
}

interface RemoveCopyOptions {
  readonly store: string;
  readonly wait?: boolean;
}

/** `image …`: single steps on images. */
export function addImageCommands(program: Command): void {
  const image = program.command("image").description("single steps on images");
  const creation = image
    .command("create")
    .description("create an image without data")
    .option("--name <name>", "name of the image")
    .addOption(diskFormatOption("format of the disk"))
    .addOption(containerFormatOption("format of the container around the disk; default: bare"))
    .option("--id <uuid>", "id of the new image; default: a new one", newIdOf)
    .option("--owner <owner>", "owner of the image; default: IMAGE_IMPORT_OWNER")
    .option("--property <name=value>", "property, may be repeated", propertiesOf)
    .option("--tag <tag>", "tag, may be repeated", listOf)
    .action(inSession(create));
  addAttributeOptions(creation, SET_ATTRIBUTES);
  const change = image
    .command("set")
    .addArgument(imageArgument())
    .description("change an image, also while an import runs; its formats only before the import")
    .option("--name <name>", "new name")
    .option("--owner <owner>", "new owner, in whose quotas the image counts then")
    .addOption(diskFormatOption("new disk format"))
    .addOption(containerFormatOption("new container format"))
    .option("--property <name=value>", "set a property, may be repeated", propertiesOf)
    .option("--remove-property <name>", "remove a property, may be repeated", listOf)
    .option("--tag <tag>", "add a tag, may be repeated", listOf)
    .option("--remove-tag <tag>", "remove a tag, may be repeated", listOf)
    .action(inSession(set));
  addAttributeOptions(change, SET_ATTRIBUTES);
  addImageByteCommands(image);
  addStartCommand(image);
  addCopyCommand(image);
  image
    .command("show")
    .alias("get")
    .addArgument(imageArgument())
    .description("show one image")
    .action(inSession(show));
  addImageListCommand(image);
  addImageMemberCommands(image);
  image
    .command("history")
    .addArgument(imageArgument())
    .description("show what happened to an image: its import, further copies, and what was removed")
    .action(inSession(history));
  image
    .command("deactivate")
    .addArgument(imageArgument())
    .description("forbid reading an active image until it is reactivated")
    .action(inSession(deactivate));
  image
    .command("reactivate")
    .addArgument(imageArgument())
    .description("allow reading a deactivated image again")
    .action(inSession(reactivate));
  image
    .command("delete")
    .alias("rm")
    .addArgument(imagesArgument())
    .description("delete images and their bytes; imports of them are cancelled")
    .action(inSession(remove));
  image
    .command("remove-copy")
    .addArgument(imageArgument())
    .description("remove an image from one of its stores; never its last copy")
    .requiredOption("--store <name>", "store to remove it from")
    .option("--wait", "wait until its bytes are removed, without a limit; default: 30 s")
    .action(inSession(removeCopy));
}

async function create(session: Session, options: CreateOptions): Promise<void> {
  // The quotas of the configuration apply if one is named.
  const client = await session.hostService();
  const { hidden: osHidden, ...attributes } = attributesOf(options);
  const image = await client.images.create({
    id: options.id,
    name: options.name,
    owner: options.owner ?? defaultOwner(),
    diskFormat: options.diskFormat,
    containerFormat: options.containerFormat ?? "bare",
    properties: options.property,
    tags: options.tag,
    ...attributes,
    osHidden,
  });
  session.answer(image, () => imageFields(image));
}

async function set(session: Session, reference: string, options: SetOptions): Promise<void> {
  const { hidden: osHidden, ...attributes } = attributesOf(options);
  const changes = {
    name: options.name,
    owner: options.owner,
    diskFormat: options.diskFormat,
    containerFormat: options.containerFormat,
    setProperties: options.property,
    removeProperties: options.removeProperty,
    addTags: options.tag,
    removeTags: options.removeTag,
    ...attributes,
    osHidden,
  };
  if (Object.values(changes).every((change) => change === undefined)) {
    throw new UsageError(
      "no change is named",
      "Name a change: `image-import image set --help` lists them.",
    );
  }
  // A new owner has quotas. Only a client with the configuration of this host knows their limits.
  const client = await (options.owner === undefined ? session.service() : session.hostService());
  const image = await client.images.change(await namedImage(session, client, reference), changes);
  session.answer(image, () => imageFields(image));
}

async function show(session: Session, reference: string): Promise<void> {
  const client = await session.service();
  const image = await client.images.show(await namedImage(session, client, reference));
  session.answer(image, () => imageFields(image));
}

async function history(session: Session, reference: string): Promise<void> {
  const client = await session.service();
  const entries = await client.images.history(await namedImage(session, client, reference));
  const { width } = await session.page();
  session.answer(entries, () => historyText(entries, width));
}

async function deactivate(session: Session, reference: string): Promise<void> {
  const client = await session.service();
  const image = await client.images.deactivate(await namedImage(session, client, reference));
  session.answer(image, () => imageFields(image));
}

async function reactivate(session: Session, reference: string): Promise<void> {
  const client = await session.service();
  const image = await client.images.reactivate(await namedImage(session, client, reference));
  session.answer(image, () => imageFields(image));
}

async function remove(session: Session, references: readonly string[]): Promise<void> {
  const client = await session.service();
  const work = async (imageId: string) => ({
    id: imageId,
    status: await client.images.delete(imageId),
  });
  const text = ({ id, status }: Awaited<ReturnType<typeof work>>): string =>
    fields([
      ["id", id],
      [
        "status",
        status === "deleted" ? status : `${status}; its bytes are removed in the background`,
      ],
    ]);
  const resolve = (reference: string) => imageToRemoveFrom(client, reference, "delete");
  await withWordOfWaiting(
    session,
    () => onEachImage(session, client, references, { work, text, resolve }),
    "remove the bytes",
  );
}

async function removeCopy(
  session: Session,
  reference: string,
  { store, wait = false }: RemoveCopyOptions,
): Promise<void> {
  const client = await session.service();
  const imageId = await imageToRemoveFrom(client, reference, "remove a copy of");
  session.about({ image_id: imageId });
  const status = await withWordOfWaiting(
    session,
    () => client.images.removeCopy(imageId, store, wait ? Infinity : undefined),
    "remove the copy",
  );
  if (wait && status !== "removed") throw cannotFollow(imageId, store);
  session.answer({ id: imageId, store, status }, () =>
    fields([
      ["id", imageId],
      ["store", store],
      [
        "status",
        status === "removed" ? status : `${status}; its bytes are removed in the background`,
      ],
    ]),
  );
}

function cannotFollow(imageId: string, store: string): ImportError {
  return new ImportError(
    "TemporalUnavailable",
    `The copy of image "${imageId}" in store "${store}" is not removed yet, and the removal cannot be followed`,
    {
      hint: "Its bytes are removed in the background. Run `image-import doctor`: it shows what is unreachable.",
    },
  );
}
