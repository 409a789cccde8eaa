import { Argument, InvalidArgumentError, Option, type Command } from "commander";
import { defaultRoles } from "../config/environment.ts";
import { CONTAINER_FORMATS, DISK_FORMATS } from "../domain/disk-format.ts";
import { parseChecksum } from "../domain/given-checksum.ts";
import { parseBytes } from "../domain/byte-size.ts";
import { parseDurationMs } from "../domain/duration.ts";
import { LOG_LEVELS } from "../domain/log-level.ts";
import { fullId } from "../domain/reference.ts";

/** Collects the values of an option that may be repeated. */
export function listOf(value: string, earlier: readonly string[] = []): readonly string[] {
  return [...earlier, value];
}

/** Collects `name=value`; the last value of a name wins. */
export function propertiesOf(
  value: string,
  earlier: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const separator = value.indexOf("=");
  if (separator < 1) throw new InvalidArgumentError("It must be NAME=VALUE.");
  return { ...earlier, [value.slice(0, separator)]: value.slice(separator + 1) };
}

/** Collects names, each of them once. */
function onceOf(value: string, earlier: readonly string[] = []): readonly string[] {
  if (earlier.includes(value)) throw new InvalidArgumentError("It is named twice.");
  return listOf(value, earlier);
}

/** `--log-level`, of the commands that run until a signal. */
export function logLevelOption(): Option {
  return (
    new Option(
      "--log-level <level>",
      "log lines of this level and above; default: IMAGE_IMPORT_LOG_LEVEL, else `logging.level` of the configuration, else info",
    )
      .choices(LOG_LEVELS)
      // Not checked here: `namedLogLevel` checks it as it checks IMAGE_IMPORT_LOG_LEVEL.
      .argParser(String)
  );
}

/** Parses an integer of at least 1. */
export function countOf(value: string): number {
  const count = Number(value);
  if (/^\d+$/.test(value) && count > 0 && Number.isSafeInteger(count)) return count;
  throw new InvalidArgumentError("It must be an integer of at least 1.");
}

/** Parses an integer; 0 is allowed. */
export function numberOf(value: string): number {
  const number = Number(value);
  if (/^\d+$/.test(value) && Number.isSafeInteger(number)) return number;
  throw new InvalidArgumentError("It must be an integer of at least 0.");
}

/** Parses the id of a new image. */
export function newIdOf(value: string): string {
  const id = fullId(value);
  if (id !== undefined) return id;
  throw new InvalidArgumentError("It must be a UUID such as 6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b.");
}

const REFERENCE = "id, beginning of an id, or name";

/** The image that a command is about. */
export function imageArgument(): Argument {
  return new Argument("<image>", REFERENCE);
}

/** The image that a command is about, if it is about one. */
export function optionalImageArgument(): Argument {
  return new Argument("[image]", REFERENCE);
}

/** The images that a command is about. */
export function imagesArgument(): Argument {
  return new Argument("<image...>", REFERENCE);
}

/** `--disk-format`, with the known names. */
export function diskFormatOption(description: string): Option {
  return new Option("--disk-format <format>", description).choices(DISK_FORMATS);
}

/** `--container-format`, with the known names. */
export function containerFormatOption(description: string): Option {
  return new Option("--container-format <format>", description).choices(CONTAINER_FORMATS);
}

/** `--store`, which may be repeated. */
export function storeOption(): Option {
  return new Option(
    "--store <name>",
    "store to fill, may be repeated; default: the default store",
  ).argParser(onceOf);
}

/** The expected data and the roles of the requester, as commander gives them. */
export interface Expectation {
  readonly checksum?: string;
  readonly size?: number;
  readonly role?: readonly string[];
}

/** Adds the options of {@link Expectation}. */
export function addExpectation(command: Command): void {
  command
    .addOption(
      new Option(
        "--checksum <digest>",
        "expected digest of the data: sha256:HEX, sha512:HEX or md5:HEX",
      ).argParser(checksumOf),
    )
    .addOption(
      new Option(
        "--size <size>",
        "expected size: a number of bytes, or a text such as 10GiB",
      ).argParser(sizeOf),
    )
    .addOption(
      new Option(
        "--role <role>",
        "role of the requester, may be repeated; default: IMAGE_IMPORT_ROLES",
      ).argParser(listOf),
    );
}

/** The expectation as the client takes it. */
export function expectationOf({ checksum, size, role = defaultRoles() }: Expectation) {
  return { checksum, size, roles: role };
}

/** The transforms of an import, as commander gives them. */
export interface TransformChoice {
  /** False: none. */
  readonly transform?: readonly string[] | false;
}

/** Adds the options of {@link TransformChoice}. */
export function addTransformChoice(command: Command): void {
  command
    .addOption(
      new Option(
        "--transform <name>",
        "transform to run, may be repeated, in this order; default: all that are configured",
      ).argParser(transformOf),
    )
    .option("--no-transform", "run no transform: import the data as it is");
}

/** Collects names of transforms, each of them once. After `--no-transform`, the names win. */
function transformOf(value: string, earlier?: readonly string[] | boolean): readonly string[] {
  return onceOf(value, typeof earlier === "boolean" ? [] : earlier);
}

/** The names as the client takes them. */
export function transformsOf({ transform }: TransformChoice): readonly string[] | undefined {
  return transform === false ? [] : transform;
}

/** Parses a checksum. A mistake in it is reported before gigabytes are staged. */
function checksumOf(value: string): string {
  if (parseChecksum(value) !== undefined) return value;
  throw new InvalidArgumentError(
    "It must be sha256:, sha512: or md5: with its number of hex digits.",
  );
}

/** Parses a size, in bytes or with a unit; 0 is allowed. */
export function sizeOf(value: string): number {
  const sizeBytes = parseBytes(value);
  if (sizeBytes !== undefined) return sizeBytes;
  throw new InvalidArgumentError("It must be a size such as 10737418240 or 10GiB.");
}

/** Parses a port; 0 is allowed. */
export function portOf(value: string): number {
  const port = Number(value);
  if (/^\d+$/.test(value) && port <= 65_535) return port;
  throw new InvalidArgumentError("It must be an integer from 0 to 65535.");
}

/** Adds `--json-lines`, for a command that follows imports. */
export function addJsonLines(command: Command): void {
  command.option(
    "--json-lines",
    "write each change as one line of JSON on stdout; the last one has the answer or the error",
  );
}

/** Limit of the wait until a worker accepts a request, as commander gives it. */
export interface AcceptPatience {
  /** In ms. */
  readonly acceptTimeout?: number;
}

/** Adds the option of {@link AcceptPatience}. */
export function addAcceptPatience(command: Command): void {
  command.addOption(
    new Option(
      "--accept-timeout <duration>",
      "how long to wait until a worker accepts the import, such as 30s; default: 60s",
    ).argParser(durationOf),
  );
}

/** Parses a duration above 0, to ms. */
export function durationOf(value: string): number {
  const durationMs = parseDurationMs(value);
  if (durationMs !== undefined && durationMs > 0) return durationMs;
  throw new InvalidArgumentError("It must be a duration such as 30s.");
}

/** The stores that an import fills, as commander gives them. */
export interface StoreChoice {
  readonly store?: readonly string[];
  readonly allStores?: boolean;
  /** From `--no-all-stores-must-succeed`. */
  readonly allStoresMustSucceed: boolean;
}

/** Adds the options of {@link StoreChoice}. */
export function addStoreChoice(command: Command): void {
  command
    .addOption(storeOption())
    .addOption(new Option("--all-stores", "fill every store that takes images").conflicts("store"))
    .option(
      "--no-all-stores-must-succeed",
      "continue without a store that fails permanently, as long as another one remains",
    );
}

/** The choice as the client takes it. */
export function storesOf({ store, allStores, allStoresMustSucceed }: StoreChoice) {
  // A default is left out of the request.
  return { stores: store, allStores, allStoresMustSucceed: allStoresMustSucceed && undefined };
}
