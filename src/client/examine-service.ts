import { readConfig, type Config } from "../config/config.ts";
import { packageVersion } from "../config/package-version.ts";
import { Database } from "../db/connect.ts";
import {
  countMissingMigrations,
  countNewerMigrations,
  takesWrites,
} from "../db/migration-status.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { ImportError } from "../domain/import-failure.ts";
import { StagingArea } from "../staging/staging-area.ts";
import { SealingKeys } from "../sources/sealing-keys.ts";
import { Transforms } from "../transforms/open-transforms.ts";
import { Connections } from "./connections.ts";
import { examineApi } from "./examine-api.ts";
import { examineTemporal } from "./examine-temporal.ts";
import { runCheck, type Finding } from "./finding.ts";
import { viewStores, type StoreView } from "./store-view.ts";

/** The parts of a service to check that the addresses of the client do not name. */
export interface ServicePlaces {
  /** The configuration file of this host. Default: the configuration of this client. */
  readonly configPath?: string | undefined;
  /** The address of the HTTP API. Default: none is asked. */
  readonly apiUrl?: string | undefined;
}

/** Does the work of `Administration.doctor`. @internal */
export async function examineService(
  connections: Connections,
  { configPath, apiUrl }: ServicePlaces,
): Promise<Finding[]> {
  let { config } = connections;
  const configuration = await runCheck("configuration", async () => {
    if (configPath !== undefined) config = readConfig(configPath);
    if (config === undefined) throw notNamed("configuration file", "IMAGE_IMPORT_CONFIG");
    return configPath ?? "given by the program";
  });
  return [
    configuration,
    await runCheck("database", () => examineDatabase(connections.databaseUrl)),
    ...(await examineTemporal(connections.address, configPath)),
    // Without a configuration the first check has already failed, and these have no subject.
    ...(config === undefined ? [] : await examineHost(connections, config)),
    ...(apiUrl === undefined ? [] : [await examineApi(apiUrl)]),
  ];
}

async function examineDatabase(databaseUrl: string | undefined): Promise<string> {
  if (databaseUrl === undefined) throw notNamed("database", "DATABASE_URL");
  const database = new Database({ url: databaseUrl, maxConnections: 1, statementTimeoutMs: 5_000 });
  try {
    const missing = await countMissingMigrations(database);
    if ((await countNewerMigrations(database)) > 0) throw newerDatabase();
    const isWritable = await takesWrites(database);
    if (missing === 0 && isWritable) return "answers, up to date";
    if (missing === 0) {
      throw new ImportError("DatabaseUnavailable", "It is read-only, as a standby is", {
        hint: "Let DATABASE_URL name the primary, or end the read-only mode; imports wait for it.",
      });
    }
    throw new ImportError("BadConfiguration", `It lacks ${String(missing)} migrations`, {
      hint: "`image-import migrate` brings it up to date.",
    });
  } finally {
    await database.close();
  }
}

function newerDatabase(): ImportError {
  return new ImportError(
    "BadConfiguration",
    `It was migrated by a newer version than this one, ${packageVersion()}`,
    { hint: "Use the version of the software that migrated the database, here and for workers." },
  );
}

/** Checks staging area, keys, transforms and stores of this host. */
async function examineHost(connections: Connections, config: Config): Promise<Finding[]> {
  return [
    await runCheck("staging", () => examineStaging(connections, config)),
    ...(await examineKeys(config)),
    ...(await examineTransforms(config)),
    ...(await examineStores(connections, config)),
  ];
}

async function examineStaging(
  connections: Connections,
  { nodeStagingUri }: Config,
): Promise<string> {
  const staging = await StagingArea.open(nodeStagingUri, await connections.volumeRecords());
  return `${staging.root}, volume ${staging.node}, ${formatBytes(await staging.freeBytes())} free`;
}

/** Checks the keys that encrypt the URLs of downloads. */
async function examineKeys({ keyFile }: Config): Promise<Finding[]> {
  if (keyFile === undefined) return [];
  const finding = await runCheck("keys", async () => {
    await SealingKeys.read(keyFile);
    return keyFile;
  });
  return [finding];
}

async function examineTransforms({ transforms: settings }: Config): Promise<Finding[]> {
  if (settings.order.length === 0) return [];
  const finding = await runCheck("transforms", async () => {
    const transforms = await Transforms.open(settings);
    await transforms.requireWorking();
    return transforms.names.join(", then ");
  });
  return [finding];
}

async function examineStores(
  { address, databaseUrl }: Connections,
  config: Config,
): Promise<Finding[]> {
  // The client may have been given another configuration, or none.
  const connections = new Connections({ temporal: address, databaseUrl, config });
  try {
    const views = await viewStores(await connections.stores(), "writable");
    return views.filter(({ disabled }) => !disabled).map(findingOf);
  } finally {
    await connections.close();
  }
}

const FILE_STORE_HINT = "Check the path of the store and the rights of this user.";
const S3_STORE_HINT =
  "Check the endpoint and the bucket of the store, and that the AWS_* variables or the profile of this user have the rights to it.";

function findingOf({ name, type, works, reason, free_bytes: freeBytes, mark }: StoreView): Finding {
  const check = `store ${name}`;
  if (works === true) {
    return { check, ok: true, detail: workingDetail(freeBytes, mark), code: null, hint: null };
  }
  return {
    check,
    ok: false,
    detail: reason ?? "does not work",
    code: "StoreUnavailable",
    hint: type === "file" ? FILE_STORE_HINT : S3_STORE_HINT,
  };
}

function workingDetail(freeBytes: number | null, mark: StoreView["mark"]): string {
  const free = freeBytes === null ? "" : `, ${formatBytes(freeBytes)} free`;
  return `works${free}${mark === "none yet" ? ", not marked yet" : ""}`;
}

function notNamed(what: string, variable: string): ImportError {
  return new ImportError(
    "NotConfigured",
    `No ${what}: no stack is running here, and ${variable} is not set`,
  );
}
