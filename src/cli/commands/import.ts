import { Option, type Command } from "commander";
import type { Service } from "../../client/service.ts";
import type { ImportSource } from "../../client/import-source.ts";
import type { Config } from "../../config/config.ts";
import { defaultOwner } from "../../config/environment.ts";
import type { ContainerFormat, DiskFormat } from "../../domain/disk-format.ts";
import { imageNameOf } from "../../domain/image-fields.ts";
import { unknownStore, unknownTransform } from "../../domain/import-request.ts";
import { UnansweredStart } from "../../client/unanswered-start.ts";
import { ImportError } from "../../domain/import-failure.ts";
import {
  addAcceptPatience,
  addExpectation,
  addJsonLines,
  addStoreChoice,
  addTransformChoice,
  containerFormatOption,
  countOf,
  diskFormatOption,
  expectationOf,
  newIdOf,
  storesOf,
  transformsOf,
  type AcceptPatience,
  type Expectation,
  type StoreChoice,
  type TransformChoice,
} from "../arguments.ts";
import { FailedImport, UsageError } from "../failure.ts";
import { Interruption } from "../interruption.ts";
import { importMany } from "../import-many.ts";
import { inSession, withKnownPlace, type Answering, type Session } from "../session.ts";
import { showingWork, STAGING } from "../shown-work.ts";
import { requireReadable, STDIN } from "../standard-input.ts";
import { startAndFollow } from "../start-and-follow.ts";
import { startCommand } from "../start-command.ts";

interface ImportOptions extends StoreChoice, Expectation, TransformChoice, AcceptPatience {
  readonly name?: string;
  readonly diskFormat?: DiskFormat;
  readonly containerFormat?: ContainerFormat;
  readonly id?: string;
  readonly owner?: string;
  readonly detach?: boolean;
  readonly keep?: boolean;
  readonly parallel: number;
}

// The digests of one upload keep two processors busy.
const PARALLEL = 2;

/** `import <file-or-url...>`: create, stage, start, wait. */
export function addImportCommand(program: Command): void {
  const command = program
    .command("import")
    .argument("<file-or-url...>", "files, URLs, or - for standard input")
    .description("import disk images: create, stage, start, and wait until they are active")
    .option("--name <name>", "name of the image; default: the name of the file")
    .addOption(
      diskFormatOption(
        "format of the disk; default: that of the name in the URL, else that of the bytes",
      ),
    )
    .addOption(containerFormatOption("format of the container around the disk; default: bare"))
    .option("--id <uuid>", "id of the new image; default: a new one", newIdOf)
    .option("--owner <owner>", "owner of the image; default: IMAGE_IMPORT_OWNER")
    .option("--detach", "return once the import is accepted")
    .option("--keep", "keep the image if its import fails; default: remove it")
    .addOption(
      new Option("--parallel <count>", "largest number of imports at a time, of several")
        .argParser(countOf)
        .default(PARALLEL),
    )
    .action(inSession(importSources));
  addJsonLines(command);
  addAcceptPatience(command);
  addExpectation(command);
  addTransformChoice(command);
  addStoreChoice(command);
}

async function importSources(
  session: Session,
  sources: readonly string[],
  options: ImportOptions,
): Promise<void> {
  requireUse(sources, options);
  // Over the API, the service judges by its own configuration.
  const config = session.api === undefined ? await session.requiredConfig() : undefined;
  const client = await session.hostService();
  await requireStores(client, options.store);
  if (config !== undefined) requireTransforms(config, transformsOf(options));
  using interruption = new Interruption();
  const { signal } = interruption;
  const explain = (error: unknown): Promise<unknown> => withKnownPlace(error, session);
  const work = (part: Answering, source: string): Promise<void> =>
    importSource(part, source, { config, client, options, signal, explain });
  const [only = "", ...others] = sources;
  if (others.length === 0) await work(session, only);
  else await importMany(session, { sources, parallel: options.parallel, signal, work });
}

/** Some options fit one source only. */
function requireUse(sources: readonly string[], options: ImportOptions): void {
  const { id, name, checksum, size } = options;
  const single = Object.entries({ id, name, checksum, size }).find(
    ([, value]) => value !== undefined,
  );
  if (sources.length > 1 && single !== undefined) {
    throw new UsageError(
      `--${single[0]} is about one image, and ${sources.length} are imported`,
      "Leave it out, or import one image at a time.",
    );
  }
  if (sources.filter((source) => source === STDIN).length > 1) {
    throw new UsageError("standard input is named twice", "Name - once.");
  }
  for (const source of sources) requireReadable(source);
}

/** The service, the options and the user, for the import of one source. */
interface ImportContext {
  /** Undefined over the API. */
  readonly config: Config | undefined;
  readonly client: Service;
  readonly options: ImportOptions;
  readonly signal: AbortSignal;
  /** Gives a failure the hint that fits the place of the service. */
  readonly explain: (error: unknown) => Promise<unknown>;
}

async function importSource(
  session: Answering,
  given: string,
  { config, client, options, signal, explain }: ImportContext,
): Promise<void> {
  const isUrl = /^\s*(https?:|[a-z][a-z0-9+.-]*:\/\/)/i.test(given);
  const source = await describe(given, { isUrl, config, options });
  requireKnownFormat(source, options);
  const name = options.name ?? imageNameOf(source.name);
  const { id, isNew } = await createImage(session, client, { ...source, name }, options);
  // True while its upload is complete, and no start was accepted.
  let isStartMissing = false;
  try {
    // A worker downloads a URL: its bytes do not pass through this process.
    if (!isUrl) {
      await stage(session, client, { id, file: given, signal });
      isStartMissing = true;
    }
    const start = async () => {
      const accepted = await client.imports.start(id, {
        ...(isUrl ? { method: "web-download", uri: given } : {}),
        ...(source.diskFormat === undefined ? { detectFormat: true } : {}),
        ...storesOf(options),
        ...expectationOf(options),
        transforms: transformsOf(options),
        imageName: name,
        acceptTimeoutMs: options.acceptTimeout,
        signal,
      });
      isStartMissing = false;
      return accepted;
    };
    await startAndFollow(session, { client, start, follows: options.detach !== true, signal });
  } catch (error) {
    throw await failedImport(client, id, await explain(error), {
      keep: options.keep === true || !isNew,
      start: isStartMissing
        ? startCommand(id, { ...options, detectFormat: source.diskFormat === undefined })
        : undefined,
    });
  }
}

/**
 * Finds the name and the format of a source, before an image is created for it.
 *
 * @throws ImportError if the file or the URL cannot be imported
 */
async function describe(
  given: string,
  {
    isUrl,
    config,
    options,
  }: Pick<ImportContext, "config" | "options"> & { readonly isUrl: boolean },
): Promise<ImportSource> {
  const { describeFile, describeUrl } = await import("../../client/import-source.ts");
  // Standard input can be read only once. Therefore only the import can detect its format.
  const unknown: ImportSource = { name: "stdin", diskFormat: undefined };
  const found = isUrl
    ? describeUrl(given)
    : given === STDIN
      ? unknown
      : await describeFile(given, config, { ...options, transforms: transformsOf(options) });
  return { ...found, diskFormat: options.diskFormat ?? found.diskFormat };
}

/**
 * The verdict does not look into a container: the format of the disk in it must be declared before
 * the first byte is read.
 */
function requireKnownFormat(
  { name, diskFormat }: ImportSource,
  { containerFormat = "bare" }: ImportOptions,
): void {
  if (diskFormat !== undefined || containerFormat === "bare") return;
  throw new UsageError(
    `the name "${name}" does not say which disk format the data in the container "${containerFormat}" has`,
    "Declare it, for example with `--disk-format qcow2`.",
  );
}

/** An image for a source. */
interface Made {
  readonly id: string;
  /** False if an earlier command made the image; this command continues the upload. */
  readonly isNew: boolean;
}

/** Creates the image from its source and the options, which win, and shows its id. */
async function createImage(
  session: Answering,
  client: Service,
  source: ImportSource,
  options: ImportOptions,
): Promise<Made> {
  const { id, isNew } = await client.images
    .create({
      id: options.id,
      name: source.name,
      owner: options.owner ?? defaultOwner(),
      diskFormat: source.diskFormat,
      containerFormat: options.containerFormat ?? "bare",
    })
    .then((image) => ({ id: image.id, isNew: true }))
    .catch(async (error: unknown) => {
      if (!(await isUnfinished(client, options.id, error))) throw error;
      return { id: options.id ?? "", isNew: false };
    });
  session.about({ image_id: id });
  session.progress.event({ event: "created", name: source.name });
  session.progress.note(`image ${id}`);
  return { id, isNew };
}

/**
 * True if this command can continue with the image that has this id already: the command works over
 * the API, and no import of the image has begun.
 */
async function isUnfinished(
  { isRemote, images }: Service,
  id: string | undefined,
  error: unknown,
): Promise<boolean> {
  const isThere = error instanceof ImportError && error.code === "ImageExists";
  if (!isRemote || id === undefined || !isThere) return false;
  const { status } = await images.show(id);
  return status === "queued" || status === "uploading";
}

async function stage(
  session: Answering,
  client: Service,
  {
    id,
    file,
    signal,
  }: { readonly id: string; readonly file: string; readonly signal: AbortSignal },
): Promise<void> {
  await showingWork(session.progress, STAGING, (report) =>
    client.files.stage(id, file === STDIN ? process.stdin : file, { signal, report }),
  );
}

/** Rejects a store that is not configured before gigabytes are staged for it. */
async function requireStores({ admin }: Service, wanted: readonly string[] = []): Promise<void> {
  if (wanted.length === 0) return;
  const known = await admin.storeNames();
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown !== undefined) throw unknownStore(unknown, known);
}

/**
 * Rejects a transform that is not configured before gigabytes are staged for it. Only a worker
 * knows the names of the user's own modules.
 */
function requireTransforms({ transforms }: Config, wanted: readonly string[] = []): void {
  const known = transforms.order.filter((each) => typeof each === "string");
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown === undefined || known.length < transforms.order.length) return;
  throw unknownTransform(unknown, known);
}

/** The state of an import that failed. */
interface FailedWork {
  /** True to keep its image. */
  readonly keep: boolean;
  /** The command that starts it, if its upload is complete and its start was refused. */
  readonly start: string | undefined;
}

/**
 * The failure of an import, for the user. Removes the image that this command created for it,
 * unless the user wants to keep it or it may still be imported.
 */
async function failedImport(
  client: Service,
  imageId: string,
  error: unknown,
  { keep, start }: FailedWork,
): Promise<unknown> {
  if (!(error instanceof ImportError)) return error;
  // The import may have begun: this command must not remove its image.
  if (error instanceof UnansweredStart) return error;
  if (start !== undefined && mayStillStart(client, error)) {
    const hint = `${error.hint} Its data stays staged: \`${start}\` tries again.`;
    return new FailedImport(error, imageId, "kept", hint);
  }
  // The staged data is that of another command.
  const isOthers = error.code === "ImageConflict" || error.code === "StagingBusy";
  const isRemoved = !(keep && isOthers) && (await removeMade(client, imageId, keep));
  if (!isRemoved) return new FailedImport(error, imageId, "kept", error.hint);
  // The hints of some failures name commands for an image that still exists.
  const isOfImage = error.hint.includes("<image-id>") || error.hint.includes(imageId);
  const wayOut = isOfImage ? "Run the command again." : error.hint;
  const hint = `${wayOut} The image was removed; \`--keep\` keeps it.`;
  return new FailedImport(error, imageId, "removed", hint);
}

/**
 * True if another request may still start the import. Over the API this command cannot check the
 * options of the import before the upload: after a refused option, the upload must stay.
 */
function mayStillStart({ isRemote }: Service, { code }: ImportError): boolean {
  if (code === "TemporalUnavailable") return true;
  return isRemote && (code === "BadRequest" || code === "AccessDenied");
}

/**
 * Removes the image of a failed import, or only its upload if the image is to be kept. A failure to
 * do so is not reported: it must not hide the failure of the import.
 *
 * @returns true if the image was removed
 */
async function removeMade(client: Service, imageId: string, keep: boolean): Promise<boolean> {
  try {
    if (!keep) return await client.images.discard(imageId);
    await client.files.unstage(imageId);
    return false;
  } catch (error) {
    if (error instanceof ImportError) return false;
    throw error;
  }
}
