import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ImportError } from "../domain/import-failure.ts";
import { isForbidden, ownerOf } from "./file-owner.ts";
import { readStackFile, stackFilePath, type StackFile } from "./stack-file.ts";
import { temporalAddress, type TemporalAddress } from "./temporal-address.ts";

/** The options of the command line that locate the service. */
export interface LocationOptions {
  /**
   * Data directory of a stack. Default: `IMAGE_IMPORT_DATA_DIR`, else that of {@link dataDirOf}.
   */
  readonly dataDir?: string | undefined;
  /** The configuration file. Default: `IMAGE_IMPORT_CONFIG`, else that of the stack. */
  readonly config?: string | undefined;
}

/** The places of the parts of the service. */
export interface ServiceLocation {
  /** The data directory that was searched for a stack. */
  readonly dataDir: string;
  /** The stack that was found there. It may not run: a killed one leaves its file behind. */
  readonly stack: StackFile | undefined;
  /** The catalogue; undefined when nothing names one. */
  readonly databaseUrl: string | undefined;
  /**
   * The Temporal server. Default: Temporal's own default, `localhost:7233`.
   */
  readonly temporal: TemporalAddress;
  /** True if the Temporal server is configured, or a stack was found. */
  readonly isTemporalNamed: boolean;
  /** Path of the configuration file; undefined when nothing names one. */
  readonly configPath: string | undefined;
}

const PACKAGE_ROOT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Finds the service: the addresses of the stack on the data directory, each replaced by what is
 * configured explicitly (`--config`, `DATABASE_URL`, `TEMPORAL_*`, `IMAGE_IMPORT_CONFIG`).
 *
 * @param env - the environment; `TEMPORAL_*` are always read from that of this process, by
 *   Temporal's own rules
 * @throws ImportError `BadConfiguration` when the stack file or Temporal's configuration can't be
 *   read
 */
export function locateService(
  options: LocationOptions,
  env: NodeJS.ProcessEnv = process.env,
): ServiceLocation {
  const dataDir = dataDirOf(options.dataDir, env);
  const stack = readStack(dataDir);
  const explicit = readTemporal(undefined);
  return {
    dataDir,
    stack,
    databaseUrl: setting(env, "DATABASE_URL") ?? stack?.database_url,
    temporal: stack === undefined ? explicit : readTemporal(stack),
    isTemporalNamed: stack !== undefined || explicit.connection.address !== undefined,
    configPath: options.config ?? setting(env, "IMAGE_IMPORT_CONFIG") ?? stack?.config,
  };
}

/**
 * The absolute path of a stack's data directory: the given one, else `IMAGE_IMPORT_DATA_DIR`, else
 * `.image-import` in a clone, or `image-import` below `XDG_DATA_HOME` if the package is installed.
 */
export function dataDirOf(given: string | undefined, env: NodeJS.ProcessEnv = process.env): string {
  return resolve(given ?? setting(env, "IMAGE_IMPORT_DATA_DIR") ?? defaultDataDir(env));
}

/** The path of the Temporal CLI: `TEMPORAL_CLI`, else `temporal` on the PATH. */
export function temporalCli(env: NodeJS.ProcessEnv = process.env): string {
  return setting(env, "TEMPORAL_CLI") ?? "temporal";
}

/** True if commands find this data directory without an option or a variable that names it. */
export function isDefaultDataDir(path: string, env: NodeJS.ProcessEnv = process.env): boolean {
  return path === resolve(defaultDataDir(env));
}

/**
 * The default is outside an installed package, which may be read-only and is replaced by updates.
 */
function defaultDataDir(env: NodeJS.ProcessEnv): string {
  const isClone = existsSync(join(PACKAGE_ROOT, "src"));
  if (isClone) return join(PACKAGE_ROOT, ".image-import");
  const dataHome = setting(env, "XDG_DATA_HOME") ?? join(homedir(), ".local", "share");
  return join(dataHome, "image-import");
}

/**
 * The failure of a caller that needs a part which is not configured.
 *
 * @param what - the part, for people
 * @param variable - the environment variable that would name it
 */
export function notConfigured(what: string, variable: string): ImportError {
  return new ImportError(
    "NotConfigured",
    `Cannot find ${what}: no stack is running here, and ${variable} is not set`,
  );
}

/** The default owner of new images: `IMAGE_IMPORT_OWNER`. */
export function defaultOwner(env: NodeJS.ProcessEnv = process.env): string | undefined {
  return setting(env, "IMAGE_IMPORT_OWNER");
}

/** The default roles of the user: `IMAGE_IMPORT_ROLES`, separated by commas. */
export function defaultRoles(env: NodeJS.ProcessEnv = process.env): string[] | undefined {
  return setting(env, "IMAGE_IMPORT_ROLES")
    ?.split(",")
    .map((role) => role.trim())
    .filter((role) => role !== "");
}

/** True if failures are shown with their stack traces: `IMAGE_IMPORT_DEBUG` is set. */
export function showsStackTraces(env: NodeJS.ProcessEnv = process.env): boolean {
  return setting(env, "IMAGE_IMPORT_DEBUG") !== undefined;
}

/** A variable; an empty one counts as not set, because compose files can hardly unset one. */
function setting(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const value = env[name];
  return value === "" ? undefined : value;
}

function readStack(dataDir: string): StackFile | undefined {
  try {
    return readStackFile(dataDir);
  } catch (cause) {
    const path = stackFilePath(dataDir);
    if (isForbidden(cause)) {
      const owner = ownerOf(dataDir);
      const whose = owner === undefined ? "" : `: the data directory belongs to ${owner}`;
      throw new ImportError("BadConfiguration", `Cannot read "${path}"${whose}`, {
        cause,
        hint: "Run the command as that user, or name your own data directory with --data-dir or IMAGE_IMPORT_DATA_DIR.",
      });
    }
    throw new ImportError("BadConfiguration", reasonOf(cause), {
      cause,
      hint: `Stop the stack that wrote "${path}", delete the file, or name another --data-dir.`,
    });
  }
}

function readTemporal(stack: StackFile | undefined): TemporalAddress {
  try {
    if (stack === undefined) return temporalAddress();
    return temporalAddress({
      address: stack.temporal_address,
      namespace: stack.temporal_namespace,
    });
  } catch (cause) {
    throw new ImportError(
      "BadConfiguration",
      `Cannot read Temporal's configuration: ${reasonOf(cause)}`,
      {
        cause,
        hint: "Correct the TEMPORAL_* variables, or the file that TEMPORAL_CONFIG_FILE names.",
      },
    );
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
