import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ImportError } from "../domain/import-failure.ts";

// The settings of the environment that every command reads, also `--help`: this file loads nothing
// that takes long.

const PACKAGE_ROOT = fileURLToPath(new URL("../..", import.meta.url));

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
 * @param what - the part, as users know it
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

/**
 * A variable; an empty one counts as not set, because compose files can hardly unset one. @internal
 */
export function setting(env: NodeJS.ProcessEnv, name: string): string | undefined {
  const value = env[name];
  return value === "" ? undefined : value;
}
