import { basename, extname } from "node:path";
import type { Command } from "commander";
import type { ImageImportClient } from "../../client/image-import-client.ts";
import { detectFormat } from "../../client/detect-format.ts";
import type { StartOptions } from "../../client/start-options.ts";
import type { Config } from "../../config/config.ts";
import { defaultOwner } from "../../config/locate.ts";
import { COMPRESSIONS, nameWhenDecompressed } from "../../domain/compression.ts";
import type { ContainerFormat, DiskFormat } from "../../domain/disk-format.ts";
import { imageNameOf } from "../../domain/image-fields.ts";
import { UnansweredStart } from "../../client/unanswered-start.ts";
import { IMPORT_FAILURES, ImportError } from "../../domain/import-failure.ts";
import { parseWebUrl } from "../../sources/web-url.ts";
import type { AcceptedCopy } from "../../workflow/contract.ts";
import {
  addAcceptPatience,
  addExpectation,
  addStoreChoice,
  containerFormatOption,
  diskFormatOption,
  expectationOf,
  idOf,
  storesOf,
  type AcceptPatience,
  type Expectation,
  type StoreChoice,
} from "../arguments.ts";
import { FailedImport, UsageError } from "../failure.ts";
import { followImport } from "../follow-import.ts";
import { Interruption } from "../interruption.ts";
import { exactSize, fields } from "../render.ts";
import { inSession, type Session } from "../session.ts";
import { withWordOfWaiting } from "../waiting-for-a-worker.ts";

interface ImportOptions extends StoreChoice, Expectation, AcceptPatience {
  readonly name?: string;
  readonly diskFormat?: DiskFormat;
  readonly containerFormat?: ContainerFormat;
  readonly id?: string;
  readonly owner?: string;
  readonly detach?: boolean;
  readonly keep?: boolean;
}

/** `import <file-or-url>`: create, stage, start, wait. */
export function addImportCommand(program: Command): void {
  const command = program
    .command("import <file-or-url>")
    .description("import a disk image: create, stage, start, and wait until it is active")
    .option("--name <name>", "name of the image; default: the name of the file")
    .addOption(
      diskFormatOption("default: the one that the bytes have, or that the URL's name ends with"),
    )
    .addOption(containerFormatOption("default: bare"))
    .option("--id <uuid>", "id of the new image; default: a new one", idOf)
    .option("--owner <owner>", "default: IMAGE_IMPORT_OWNER")
    .option("--detach", "return once the import is accepted")
    .option("--keep", "keep the image when its import fails; default: it is removed")
    .action(inSession(importFileOrUrl));
  addAcceptPatience(command);
  addExpectation(command);
  addStoreChoice(command);
}

async function importFileOrUrl(
  session: Session,
  source: string,
  options: ImportOptions,
): Promise<void> {
  requireStores(session.requiredConfig, options.store);
  if (/^\s*(https?:|[a-z][a-z0-9+.-]*:\/\/)/i.test(source))
    await importUrl(session, source, options);
  else await importFile(session, source, options);
}

/** The worker fetches it: nothing passes through this process. */
async function importUrl(session: Session, url: string, options: ImportOptions): Promise<void> {
  // Before anything is made: what never will be accepted makes no image.
  parseWebUrl(url);
  const client = await session.hostClient();
  const name = nameOf(url);
  const diskFormat = options.diskFormat ?? formatOf(name);
  requireKnownFormat(name, diskFormat, options);
  const id = await createImage(session, client, { name, diskFormat }, options);
  using interruption = new Interruption();
  try {
    const source = { method: "web-download", uri: url, ...detectionOf(diskFormat) } as const;
    await startAndFollow(session, client, id, source, options, interruption.signal);
  } catch (error) {
    throw await failedImport(client, id, error, { ...options, isStaged: false });
  }
}

// Endings that several formats have, such as `.img`, are not in it.
const FORMAT_OF_ENDING: Readonly<Record<string, DiskFormat>> = {
  raw: "raw",
  qcow2: "qcow2",
  vmdk: "vmdk",
  vdi: "vdi",
  vhd: "vhd",
  vpc: "vhd",
  vhdx: "vhdx",
  iso: "iso",
};

/** The last part of a URL's path, as it is shown to people: without what may be a secret. */
function nameOf(url: string): string {
  const { pathname } = parseWebUrl(url);
  const name = basename(pathname);
  try {
    return imageNameOf(decodeURIComponent(name)) || "image";
  } catch {
    return imageNameOf(name);
  }
}

/** The format that the end of a name stands for; undefined when only the bytes can say it. */
function formatOf(name: string): DiskFormat | undefined {
  return FORMAT_OF_ENDING[
    extname(nameWhenDecompressed(name) ?? name)
      .slice(1)
      .toLowerCase()
  ];
}

/** Lets the import read the format from the bytes, where nothing else says it. */
function detectionOf(diskFormat: DiskFormat | undefined): Pick<StartOptions, "detectFormat"> {
  return diskFormat === undefined ? { detectFormat: true } : {};
}

/**
 * A disk inside of a container is not looked at: its format must be declared before the first byte
 * is fetched.
 */
function requireKnownFormat(
  name: string,
  diskFormat: DiskFormat | undefined,
  { containerFormat = "bare" }: ImportOptions,
): void {
  if (diskFormat !== undefined || containerFormat === "bare") return;
  throw new UsageError(
    `the name "${name}" does not say which disk format the data in the container "${containerFormat}" has`,
    "Declare it, for example with `--disk-format qcow2`.",
  );
}

async function importFile(session: Session, file: string, options: ImportOptions): Promise<void> {
  const config = session.requiredConfig;
  const client = await session.hostClient();
  // Before anything is made: a file that can't be read, or never will be accepted, makes no image.
  const name = basename(file);
  const isDecompressed = config.transforms.order.includes("decompress");
  // The marks of a compressed file are not those of the disk in it, but its name may say more.
  const isCompressed = nameWhenDecompressed(name) !== undefined;
  const named = isDecompressed && isCompressed ? formatOf(name) : undefined;
  const declared = options.diskFormat ?? named;
  const diskFormat = await detectFormat(file, config.formatPolicy, {
    ...options,
    ...(declared === undefined ? {} : { diskFormat: declared }),
    ...(isDecompressed ? { decompressed: COMPRESSIONS } : {}),
  });
  requireKnownFormat(name, diskFormat, options);
  const id = await createImage(session, client, { name, diskFormat }, options);
  using interruption = new Interruption();
  try {
    await client.files.stage(id, file, {
      signal: interruption.signal,
      onProgress: (doneBytes, totalBytes) => {
        session.progress.bytes("staging", doneBytes, totalBytes);
      },
    });
    await startAndFollow(
      session,
      client,
      id,
      detectionOf(diskFormat),
      options,
      interruption.signal,
    );
  } catch (error) {
    throw await failedImport(client, id, error, { ...options, isStaged: true });
  }
}

/**
 * Makes the image, of what is known of its source where the options don't say otherwise, and tells
 * its id.
 */
async function createImage(
  session: Session,
  client: ImageImportClient,
  source: { readonly name: string; readonly diskFormat: DiskFormat | undefined },
  options: ImportOptions,
): Promise<string> {
  const { id } = await client.images.create({
    id: options.id,
    name: options.name ?? imageNameOf(source.name),
    owner: options.owner ?? defaultOwner(),
    diskFormat: source.diskFormat,
    containerFormat: options.containerFormat ?? "bare",
  });
  session.progress.note(`image ${id}`);
  return id;
}

async function startAndFollow(
  session: Session,
  client: ImageImportClient,
  id: string,
  source: Pick<StartOptions, "method" | "uri" | "detectFormat">,
  options: ImportOptions,
  signal: AbortSignal,
): Promise<void> {
  const accepted = await startPatiently(session, () =>
    client.imports.start(id, {
      ...source,
      ...storesOf(options),
      ...expectationOf(options),
      acceptTimeoutMs: options.acceptTimeout,
      signal,
    }),
  );
  if (accepted === undefined) return;
  if (options.detach === true) answerAccepted(session, accepted);
  else await waitFor(session, client, accepted, signal);
}

/**
 * Starts an import. While no worker answers, the terminal says so; when none has answered in the
 * end, what is known is the answer of the command, with exit code 5.
 *
 * @returns undefined when it is started and not accepted yet
 */
export async function startPatiently<Accepted extends AcceptedCopy>(
  session: Session,
  start: () => Promise<Accepted>,
): Promise<Accepted | undefined> {
  try {
    return await withWordOfWaiting(session, start);
  } catch (error) {
    if (!(error instanceof UnansweredStart) || error.run === undefined) throw error;
    const { run, message, hint } = error;
    session.progress.note(`${message}. ${hint}`);
    session.answer({ ...run, task_id: null, status: "waiting" }, () =>
      fields([
        ["image_id", run.image_id],
        ["status", "started, not accepted yet"],
        ["workflow_id", run.workflow_id],
        ["run_id", run.run_id],
      ]),
    );
    process.exitCode = IMPORT_FAILURES.NotAcceptedYet.exitCode;
    return undefined;
  }
}

/** A store that nobody configured is told before gigabytes are staged for it. */
function requireStores({ stores }: Config, wanted: readonly string[] = []): void {
  const known = Object.keys(stores);
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new ImportError(
    "UnknownStore",
    `There is no store "${unknown}"; configured are ${known.join(", ")}`,
  );
}

/**
 * Follows an accepted import and answers with its end; who leaves before is told how to come back.
 */
export async function waitFor(
  session: Session,
  client: ImageImportClient,
  accepted: AcceptedCopy,
  signal: AbortSignal,
  status: "importing" | "active" = "importing",
): Promise<void> {
  const followed = await followImport(client, accepted, { progress: session.progress, signal });
  if (followed.kind === "left") {
    const { image_id: id } = accepted;
    session.progress.note(
      `Left; the import goes on. \`image-import watch ${id}\` follows it, \`image-import cancel ${id}\` cancels it.`,
    );
    answerAccepted(session, accepted, status);
    return;
  }
  const { outcome } = followed;
  session.answer(outcome, () =>
    fields([
      ["image_id", outcome.image_id],
      ["status", outcome.status],
      ["size", exactSize(outcome.size)],
      ["checksum", outcome.checksum],
      [outcome.os_hash_algo, outcome.os_hash_value],
      ["stores", outcome.stores.join(", ")],
      ["task_id", outcome.task_id ?? "none, there was nothing to do"],
      ["run_id", outcome.run_id],
    ]),
  );
}

/** Answers with an import that runs. */
export function answerAccepted(
  session: Session,
  accepted: AcceptedCopy,
  status: "importing" | "active" = "importing",
): void {
  session.answer({ ...accepted, status }, () =>
    fields([
      ["image_id", accepted.image_id],
      ["status", status],
      ["task_id", accepted.task_id ?? "none, there was nothing to do"],
      ["workflow_id", accepted.workflow_id],
      ["run_id", accepted.run_id],
    ]),
  );
}

/**
 * The failure of an import, for a person. The image that this command made for it is removed,
 * unless it is to be kept, or may be imported all the same.
 */
async function failedImport(
  client: ImageImportClient,
  imageId: string,
  error: unknown,
  { keep = false, isStaged }: { readonly keep?: boolean; readonly isStaged: boolean },
): Promise<unknown> {
  if (!(error instanceof ImportError)) return error;
  // Whether it is imported is not known: nothing of it may be touched.
  if (error instanceof UnansweredStart) return error;
  if (error.code === "TemporalUnavailable" && isStaged) {
    const hint = `${error.hint} Its data stays staged: \`image-import start ${imageId}\` tries again.`;
    return new FailedImport(error, imageId, "kept", hint);
  }
  const isRemoved = await removeMade(client, imageId, keep);
  if (!isRemoved) return new FailedImport(error, imageId, "kept", error.hint);
  // The hints of some failures name commands for an image that is there.
  const isOfImage = error.hint.includes("<image-id>") || error.hint.includes(imageId);
  const wayOut = isOfImage ? "Run the command again." : error.hint;
  const hint = `${wayOut} The image was removed; \`--keep\` keeps it.`;
  return new FailedImport(error, imageId, "removed", hint);
}

/** A failure here must not hide the one that matters. */
async function removeMade(
  client: ImageImportClient,
  imageId: string,
  keep: boolean,
): Promise<boolean> {
  try {
    if (!keep) return await client.images.discard(imageId);
    await client.files.unstage(imageId);
    return false;
  } catch (error) {
    if (error instanceof ImportError) return false;
    throw error;
  }
}
