import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import type { FormatPolicy } from "../domain/format-policy.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ListenAddress } from "../domain/listen-address.ts";
import type { LogLevel } from "../domain/log-level.ts";
import type { Limits } from "../domain/quota.ts";
import type { StoreSettings } from "../domain/store-settings.ts";
import type { TransformSettings } from "../domain/transform-settings.ts";
import type { WebSettings } from "../domain/web-settings.ts";
import { api, apiSettingsOf, type ApiSettings } from "./api-settings.ts";
import { limits, limitsOf } from "./limits.ts";
import { formatPolicy } from "./format-settings.ts";
import { health, metrics } from "./listen-settings.ts";
import { logging } from "./log-settings.ts";
import { bytes, durationMs } from "./quantities.ts";
import { webSettingsOf, webSource } from "./source-settings.ts";
import {
  configuredStore,
  mistakeInName,
  settingsOf,
  sharedPlaces,
  acceptsImports,
} from "./store-settings.ts";
import { configuredTransforms, transformSections, transformsOf } from "./transform-settings.ts";
import { YamlLines } from "./yaml-lines.ts";

/**
 * The configuration file. docs/configuration.md is generated from the metadata of its settings:
 * `description`; `values` or `unit`, where the schema does not show what a setting takes;
 * `default`, where the default is not a value.
 *
 * @internal
 */
export const configurationFile = z.strictObject({
  node_staging_uri: z.string().optional().meta({
    description: "The staging area. The id of its volume is kept in a file inside it.",
    values: "`file:///` and an absolute path",
    default: "the directory `staging` beside the configuration file",
  }),
  hashing_algorithm: z.enum(["sha256", "sha384", "sha512"]).default("sha512").meta({
    description: "The algorithm of the multihash, Glance's `os_hash_algo`.",
  }),
  default_store: z.string().optional().meta({
    description:
      "The store that an import fills when it names none. It must be neither `read_only` nor `disabled`.",
    values: "name of a store",
    default: "the first store that accepts imports",
  }),
  stores: z
    .record(
      z.string().regex(/^[a-z0-9][a-z0-9_-]*$/, "store names are a-z, 0-9, _ and -"),
      configuredStore,
    )
    .refine((stores) => Object.keys(stores).length > 0, "must name at least one store"),
  staging: z
    .strictObject({
      time_to_live: durationMs.default(24 * 3_600_000).meta({
        description: "How long an upload is kept that no import has used.",
      }),
      bandwidth_limit: bytes.optional().meta({
        description: "The bandwidth of each upload into staging.",
        unit: "size per second",
        default: "no limit",
      }),
    })
    .prefault({}),
  import: z
    .strictObject({
      deadline: durationMs.default(24 * 3_600_000).meta({
        description: "An import that takes longer fails, and is undone.",
      }),
      heartbeat_timeout: durationMs.default(15_000).meta({
        description:
          "A step that shows no sign of life for this long is tried again, by another worker if there is one.",
      }),
      idle_timeout: durationMs.default(60_000).meta({
        description:
          "How long a source, a store or a transform may make no progress before its step is tried again.",
      }),
      task_time_to_live: durationMs.default(48 * 3_600_000).meta({
        description:
          "How long the record of a task is kept after its end. The reconciler removes it.",
      }),
      run_time_to_live: durationMs.optional().meta({
        description:
          "How long Temporal keeps a run after its end. `migrate` sets it, and `doctor` shows it.",
        default: "the setting of the Temporal namespace stays",
      }),
      slots: z.int().min(1).max(64).default(3).meta({
        description:
          "The number of steps that move bytes, such as copies and downloads, that one worker runs at once.",
      }),
      publish_at_once: bytes.default(1024 * 1024).meta({
        description:
          "An image up to this size is saved, activated and unstaged in one step, which neither a pause nor a cancel stops. Larger images, and copies of active images, have a step for each.",
      }),
      transforms: configuredTransforms,
    })
    .prefault({}),
  limits,
  ...transformSections,
  formats: formatPolicy,
  sources: z.strictObject({ web: webSource }).prefault({}),
  secrets: z
    .strictObject({
      key_file: z.string().min(1).optional().meta({
        description:
          "The file with the keys that encrypt secrets in the URLs of downloads. Each line is a key: 32 bytes in base64. The first key encrypts, and all of them decrypt. Other users must not be able to read the file.",
        values: "path",
        default: "none; a URL that may contain a secret is refused",
      }),
    })
    .prefault({}),
  verify_on_publish: z.boolean().default(false).meta({
    description:
      "`true`: every copy is read back from its store and compared before its image becomes active.",
  }),
  logging,
  health,
  metrics,
  api,
  reconcile_every: durationMs.default(5 * 60_000).meta({
    description:
      "How often the reconciler looks for what terminated or lost runs have left behind, and removes it.",
  }),
});

/** The service's settings: times in ms, sizes in bytes, paths absolute. */
export interface Config {
  /** `file:///…`. It is checked when it is used, so that the error has Glance's words. */
  readonly nodeStagingUri: string;
  /** The multihash, `os_hash_algo`. */
  readonly hashAlgo: string;
  /** Size up to which an image is published in one step. */
  readonly publishAtOnceBytes: number;
  /** A store that accepts imports: neither disabled nor read-only. */
  readonly defaultStore: string;
  readonly stores: Readonly<Record<string, StoreSettings>>;
  readonly stagingTimeToLiveMs: number;
  /** Bytes per second of each upload into staging. */
  readonly stagingBandwidthLimit: number | undefined;
  readonly importDeadlineMs: number;
  /** The time that the record of a task is kept after its end. */
  readonly taskTimeToLiveMs: number;
  /**
   * The time that Temporal keeps a run after its end, set by `migrate`. Default: the setting of the
   * namespace.
   */
  readonly runTimeToLiveMs: number | undefined;
  readonly heartbeatTimeoutMs: number;
  /** The time that a source or store may make no progress. */
  readonly idleTimeoutMs: number;
  /** The number of byte steps that one worker runs at once. */
  readonly byteSlots: number;
  /** The cap on one image, and the quotas of owners. */
  readonly limits: Limits;
  readonly transforms: TransformSettings;
  /** The rules for accepted images. */
  readonly formatPolicy: FormatPolicy;
  readonly web: WebSettings;
  /** File of the keys that encrypt secrets in URIs. Default: none; no such URI is accepted then. */
  readonly keyFile: string | undefined;
  /** True if every copy is read back before its image becomes active. */
  readonly verifyOnPublish: boolean;
  readonly reconcileEveryMs: number;
  /** The address of the health endpoints of a worker. */
  readonly health: ListenAddress;
  /** The address of the metrics of a worker. */
  readonly metrics: ListenAddress;
  /** The HTTP API. */
  readonly api: ApiSettings;
  /** The level of the logs of a worker and of the API, and the rotation of a stack's logs. */
  readonly logging: {
    readonly level: LogLevel;
    /** A log that is larger is rotated. */
    readonly maxSizeBytes: number;
    /** The number of rotated logs that are kept. */
    readonly keep: number;
  };
}

/**
 * Reads the configuration file.
 *
 * @throws ImportError `BadConfiguration` naming every mistake at once
 */
export function readConfig(path: string): Config {
  return parseConfig(readText(path), path);
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ImportError(
      "BadConfiguration",
      `Cannot read the configuration "${path}": ${reason}`,
      { cause },
    );
  }
}

/**
 * Reads the text of a configuration. Relative paths in it start at the folder of `path`.
 *
 * @param env - holds variables that the AWS SDK reads
 */
export function parseConfig(text: string, path: string, env = process.env): Config {
  const lines = readYaml(text, path);
  const document = lines.value ?? {};
  const folder = dirname(resolve(path));
  const parsed = configurationFile.safeParse(document);
  const sound = soundStores.parse(document);
  const stores = Object.entries(sound.stores).flatMap(([name, each]) =>
    each === null ? [] : [[name, settingsOf(each, folder, env)] as const],
  );
  const mistakes = [
    ...(parsed.error?.issues.flatMap((issue) => mistakesIn(issue, lines)) ?? []),
    ...mistakesInDefault(sound, stores),
    ...sharedPlaces(stores),
  ];
  if (!parsed.success || mistakes.length > 0) throw badConfiguration(path, mistakes);
  const { data } = parsed;
  return {
    nodeStagingUri: data.node_staging_uri ?? pathToFileURL(join(folder, "staging")).href,
    hashAlgo: data.hashing_algorithm,
    defaultStore: data.default_store ?? firstThatAcceptsImports(stores) ?? "",
    stores: Object.fromEntries(stores),
    stagingTimeToLiveMs: data.staging.time_to_live,
    stagingBandwidthLimit: data.staging.bandwidth_limit,
    importDeadlineMs: data.import.deadline,
    publishAtOnceBytes: data.import.publish_at_once,
    taskTimeToLiveMs: data.import.task_time_to_live,
    runTimeToLiveMs: data.import.run_time_to_live,
    heartbeatTimeoutMs: data.import.heartbeat_timeout,
    idleTimeoutMs: data.import.idle_timeout,
    byteSlots: data.import.slots,
    limits: limitsOf(data.limits),
    transforms: transformsOf(data.import.transforms, data, folder),
    formatPolicy: data.formats,
    web: webSettingsOf(data.sources.web, folder),
    keyFile:
      data.secrets.key_file === undefined ? undefined : resolve(folder, data.secrets.key_file),
    verifyOnPublish: data.verify_on_publish,
    reconcileEveryMs: data.reconcile_every,
    health: data.health,
    metrics: data.metrics,
    api: apiSettingsOf(data.api, folder),
    logging: {
      level: data.logging.level,
      maxSizeBytes: data.logging.max_size,
      keep: data.logging.keep,
    },
  };
}

/** The texts of a mistake, each with its place in the file. */
function mistakesIn(issue: z.core.$ZodIssue, lines: YamlLines): string[] {
  const { path } = issue;
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map(
      (key) => `${placeOf(path, lines.lineOf([...path, key]))}: ${mistakeInName(key)}`,
    );
  }
  const text =
    issue.code === "invalid_key"
      ? issue.issues.map(({ message }) => message).join(", ")
      : issue.message;
  return [`${placeOf(path, lines.lineOf(path))}: ${text}`];
}

function placeOf(path: readonly PropertyKey[], line: number | undefined): string {
  const name = path.join(".") || "file";
  return line === undefined ? name : `${name} (line ${String(line)})`;
}

/**
 * The valid stores of a file that may be wrong elsewhere. With these, mistakes between stores are
 * reported together with all other mistakes.
 */
const soundStores = z
  .object({
    default_store: z.string().optional().catch(undefined),
    stores: z.record(z.string(), configuredStore.nullable().catch(null)),
  })
  .catch({ stores: {} });

type NamedStores = readonly (readonly [name: string, StoreSettings])[];

function mistakesInDefault(sound: z.output<typeof soundStores>, stores: NamedStores): string[] {
  const names = Object.keys(sound.stores);
  const { default_store: name } = sound;
  if (name === undefined) {
    const isKnown = stores.length === names.length && names.length > 0;
    if (!isKnown || firstThatAcceptsImports(stores) !== undefined) return [];
    return ["stores: at least one must be neither disabled nor read_only"];
  }
  if (!names.includes(name)) return [`default_store: "${name}" is not one of stores`];
  const settings = new Map(stores).get(name);
  if (settings === undefined || acceptsImports(settings)) return [];
  const state = settings.disabled ? "disabled" : "read_only";
  return [`default_store: "${name}" does not accept imports: it is ${state}`];
}

function firstThatAcceptsImports(stores: NamedStores): string | undefined {
  return stores.find(([, settings]) => acceptsImports(settings))?.[0];
}

function readYaml(text: string, path: string): YamlLines {
  try {
    return new YamlLines(text);
  } catch (cause) {
    throw badConfiguration(path, [cause instanceof Error ? cause.message : String(cause)]);
  }
}

function badConfiguration(path: string, mistakes: readonly string[]): ImportError {
  return new ImportError(
    "BadConfiguration",
    `Cannot use the configuration "${path}": ${mistakes.join("; ")}`,
  );
}
