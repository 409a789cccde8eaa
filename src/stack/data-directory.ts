import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  realpathSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { isForbidden, ownerOf } from "../config/file-owner.ts";
import { StackError } from "./stack-error.ts";

/** The paths of a data directory, all absolute. */
export interface DataDirectory {
  /** The directory itself, symbolic links resolved. */
  readonly path: string;
  /** The service's configuration file. */
  readonly config: string;
  /** The staging area. */
  readonly staging: string;
  /** The file store named `local`. */
  readonly localStore: string;
  /** Postgres' cluster and password. */
  readonly postgres: string;
  /** Temporal's database file. */
  readonly temporalDatabase: string;
  /** The ports, which stay the same from start to start. */
  readonly ports: string;
  /** One log per program. */
  readonly logs: string;
}

const KEY_FILE = "secrets.key";

// Paths in it are relative to the file, so that a data directory can be moved.
const FIRST_CONFIG = `# Settings of the Image Import service; paths are relative to this file.
# Uploads lie in staging/ beside it, unless node_staging_uri names another directory.
default_store: local
stores:
  local:
    type: file
    path: stores/local
# Encrypts the secrets in the URLs of downloads. Running imports need it to continue.
secrets:
  key_file: ${KEY_FILE}
`;

/**
 * Opens a data directory, and creates its missing parts. Only its owner may read a new one, and its
 * configuration has one file store. Existing parts stay as they are.
 *
 * @throws StackError when this user cannot use the directory
 */
export function openDataDirectory(dataDir: string): DataDirectory {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const path = realpathSync(dataDir);
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    const layout = layOut(path);
    makeDirectories(layout);
    writeFirstConfig(layout);
    return layout;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const owner = isForbidden(cause) ? ownerOf(dataDir) : undefined;
    const whose = owner === undefined ? "" : ` (it belongs to ${owner})`;
    throw new StackError(
      `Cannot use the data directory "${dataDir}": ${reason}${whose}. Choose one that this user may write with --data-dir or IMAGE_IMPORT_DATA_DIR`,
      { cause },
    );
  }
}

function layOut(path: string): DataDirectory {
  return {
    path,
    config: join(path, "image-import.yaml"),
    staging: join(path, "staging"),
    localStore: join(path, "stores", "local"),
    postgres: join(path, "postgres"),
    temporalDatabase: join(path, "temporal", "temporal.db"),
    ports: join(path, "ports.json"),
    logs: join(path, "logs"),
  };
}

function makeDirectories(layout: DataDirectory): void {
  const temporal = join(layout.path, "temporal");
  for (const path of [layout.staging, layout.localStore, layout.postgres, temporal, layout.logs]) {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  }
}

function writeFirstConfig({ path, config }: DataDirectory): void {
  if (existsSync(config)) return;
  const keyFile = join(path, KEY_FILE);
  // Before the configuration that names it.
  if (!existsSync(keyFile)) write(keyFile, `${randomBytes(32).toString("base64")}\n`, 0o600);
  write(config, FIRST_CONFIG, 0o666);
}

/** Writes a file atomically. */
function write(path: string, text: string, mode: number): void {
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}
