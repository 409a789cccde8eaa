import { resolve } from "node:path";
import { z } from "zod";
import type { StoreSettings } from "../domain/store-settings.ts";
import { bytes } from "./quantities.ts";

/** The slowest bandwidth limit: below it, a block of 1 MiB looks like a store that has stalled. */
const SLOWEST_BYTES_PER_SECOND = 64 * 1024;

/** The bounds of S3 for a part that is not the last one. */
const SMALLEST_PART_BYTES = 5 * 1024 ** 2;
const LARGEST_PART_BYTES = 5 * 1024 ** 3;

const ofEveryStore = {
  bandwidth_limit: bytes
    .refine((rate) => rate >= SLOWEST_BYTES_PER_SECOND, "must be at least 64KiB per second")
    .optional()
    .meta({
      description:
        "The bandwidth that all copies into the store share, such as `50MiB`. At least `64KiB`.",
      unit: "size per second",
      default: "no limit",
    }),
  read_only: z.boolean().default(false).meta({
    description:
      "`true`: images are read from the store; nothing is imported into it or removed from it. A deletion waits until the store is writable again.",
  }),
  disabled: z.boolean().default(false).meta({
    description: "`true`: the store is not used at all, as if it were unreachable.",
  }),
};

const fileMode = z
  // YAML reads the number 0440 as four hundred and forty.
  .string('must be octal text in quotes, such as "0440"')
  .transform((text, context) => {
    const mode = /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : undefined;
    if (mode !== undefined && (mode & 0o222) === 0 && (mode & 0o400) !== 0) return mode;
    const message =
      mode === undefined
        ? `must be octal text such as "0440", not "${text}"`
        : `must let its owner read and no user write, not "${text}": published files are read-only`;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  });

// Numbers alone: a name may stand for another user on the worker's host.
const fileOwner = z
  .string()
  .regex(/^\d{1,10}:\d{1,10}$/, 'must be "uid:gid" in numbers, such as "64055:64055"')
  .transform((text) => {
    const [uid = 0, gid = 0] = text.split(":").map(Number);
    return { uid, gid };
  });

const fileStore = z.strictObject({
  type: z.literal("file").meta({
    description: "The kind of store. There may be any number of each kind.",
  }),
  path: z.string().min(1).meta({
    description:
      "File store: its directory. A worker creates the directory of a store that was never used.",
    values: "path",
  }),
  zero_copy: z.boolean().default(true).meta({
    description:
      "File store: link the staged file instead of copying it where that is safe, which means that this service staged it and that the store is on the same file system.",
  }),
  mode: fileMode.default(0o440).meta({
    description: "File store: the permissions of published files. They must not include writing.",
    values: "octal text in quotes",
    default: '`"0440"`',
  }),
  owner: fileOwner.optional().meta({
    description:
      "File store: the owner of published files. A worker that gives files to another owner must be root or have `CAP_CHOWN`.",
    values: '`"uid:gid"` in numbers',
    default: "the user and group of the worker",
  }),
  ...ofEveryStore,
});

/**
 * The reason why a text is not the address of an S3 server, or undefined. It does not repeat the
 * text, which may contain a password.
 */
function mistakeInEndpoint(text: string): string | undefined {
  if (!URL.canParse(text)) return "must be a URL such as https://s3.example.org";
  const { protocol, username, password, pathname, search, hash } = new URL(text);
  if (username !== "" || password !== "")
    return `must not contain credentials: ${CREDENTIALS_CHAIN}`;
  if (protocol !== "http:" && protocol !== "https:") return "must be an http or https URL";
  if (pathname !== "/" || search !== "" || hash !== "") return "must end after host and port";
  return undefined;
}

const CREDENTIALS_CHAIN =
  "the AWS SDK looks for them in the worker's environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), " +
  "in ~/.aws (AWS_PROFILE) and in the machine's role";

const endpoint = z.string().transform((text, context) => {
  const message = mistakeInEndpoint(text);
  if (message === undefined) return new URL(text).origin;
  context.addIssue({ code: "custom", message });
  return z.NEVER;
});

const PREFIX_RULE = 'must be names separated by "/", none of them empty, "." or ".."';
const prefix = z
  .string()
  .regex(/^(?:(?!\.{1,2}(?:\/|$))[^/]+(?:\/|$))*$/, PREFIX_RULE)
  .transform((text) => (text === "" || text.endsWith("/") ? text : `${text}/`));

const s3Store = z.strictObject({
  type: z.literal("s3").meta({
    description: "The kind of store. There may be any number of each kind.",
  }),
  bucket: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "must be 3 to 63 of a-z, 0-9, . and -")
    .meta({ description: "S3 store: its bucket.", values: "name" }),
  prefix: prefix.default("").meta({
    description:
      "S3 store: the prefix of its keys. Two stores must not have the same place, nor one inside the other's.",
    values: "names separated by `/`",
    default: "none",
  }),
  region: z.string().min(1).optional().meta({
    description: "S3 store: its region. For Garage, the `s3_region` of the server.",
    values: "name",
    default: "`AWS_REGION`, or else `us-east-1`",
  }),
  endpoint: endpoint.optional().meta({
    description:
      "S3 store: the address of Ceph RGW, MinIO, Garage or another server, without a path.",
    values: "`https://host:port`",
    default: "that of AWS",
  }),
  path_style: z.boolean().optional().meta({
    description: "S3 store: put the bucket into the path of a URL instead of its host name.",
    default: "`true` with an `endpoint`, else `false`",
  }),
  ca_file: z.string().min(1).optional().meta({
    description:
      "S3 store: certificate authorities that are trusted in addition to the usual ones.",
    values: "path of a PEM file",
    default: "none",
  }),
  checksums: z.enum(["when_supported", "when_required"]).default("when_supported").meta({
    description:
      "S3 store: `when_required` is for servers that refuse the checksum headers of recent AWS clients.",
  }),
  part_size: bytes
    .refine(
      (size) => size >= SMALLEST_PART_BYTES && size <= LARGEST_PART_BYTES,
      "must be at least 5MiB and at most 5GiB",
    )
    .default(16 * 1024 ** 2)
    .meta({
      description:
        "S3 store: the size of the parts that a copy is sent in, from `5MiB` to `5GiB`. Large images get larger parts.",
    }),
  parts_in_flight: z.int().min(1).max(16).default(4).meta({
    description: "S3 store: the number of parts of one copy that are sent at once.",
  }),
  ...ofEveryStore,
});

/** One store in the configuration file. */
export const configuredStore = z.discriminatedUnion("type", [fileStore, s3Store], {
  error: 'must be of the type "file" or "s3"',
});

// The names that AWS, Glance's s3 driver and other tools give to credentials.
const CREDENTIAL = /access.?key|secret|password|token|credential/i;

/** The mistake of a name that the schema does not have. */
export function mistakeInName(name: string): string {
  if (CREDENTIAL.test(name)) return `"${name}" must not be in this file: ${CREDENTIALS_CHAIN}`;
  return `Unrecognized key: "${name}"`;
}

/**
 * The settings of one store.
 *
 * @param folder - where relative paths start
 * @param env - holds the region, if the file names none
 */
export function settingsOf(
  store: z.output<typeof configuredStore>,
  folder: string,
  env: NodeJS.ProcessEnv,
): StoreSettings {
  const common = {
    bandwidthLimit: store.bandwidth_limit,
    readOnly: store.read_only,
    disabled: store.disabled,
  };
  if (store.type === "file") {
    return {
      type: store.type,
      path: resolve(folder, store.path),
      zeroCopy: store.zero_copy,
      mode: store.mode,
      owner: store.owner,
      ...common,
    };
  }
  return {
    type: store.type,
    bucket: store.bucket,
    prefix: store.prefix,
    // An empty variable counts as not set.
    region: store.region ?? (env["AWS_REGION"] || "us-east-1"),
    endpoint: store.endpoint,
    caFile: store.ca_file === undefined ? undefined : resolve(folder, store.ca_file),
    // AWS wants the bucket in the host's name. Ceph RGW, MinIO and Garage would need a wildcard in
    // DNS for that.
    pathStyle: store.path_style ?? store.endpoint !== undefined,
    checksums: store.checksums,
    partSizeBytes: store.part_size,
    partsInFlight: store.parts_in_flight,
    ...common,
  };
}

/** True if images can be imported into the store. */
export function acceptsImports({ readOnly, disabled }: StoreSettings): boolean {
  return !readOnly && !disabled;
}

/**
 * The mistakes of stores that share a place: each would take the other's copies for its own, and
 * remove them.
 */
export function sharedPlaces(stores: readonly (readonly [string, StoreSettings])[]): string[] {
  return stores.flatMap(([name, store], index) => {
    for (const [other, earlier] of stores.slice(0, index)) {
      const mistake = sharedPlace(store, earlier, other);
      if (mistake !== undefined) return [`stores.${name}.${mistake}`];
    }
    return [];
  });
}

function sharedPlace(
  store: StoreSettings,
  earlier: StoreSettings,
  other: string,
): string | undefined {
  if (store.type === "file" && earlier.type === "file" && store.path === earlier.path) {
    return `path: "${store.path}" is already the path of "${other}"`;
  }
  if (store.type !== "s3" || earlier.type !== "s3") return undefined;
  if (store.endpoint !== earlier.endpoint || store.bucket !== earlier.bucket) return undefined;
  if (store.prefix === earlier.prefix) {
    return `prefix: "${store.prefix}" of bucket "${store.bucket}" is already the place of "${other}"`;
  }
  const isInside = store.prefix.startsWith(earlier.prefix);
  if (!isInside && !earlier.prefix.startsWith(store.prefix)) return undefined;
  const relation = isInside ? "is inside" : "contains";
  return `prefix: "${store.prefix}" of bucket "${store.bucket}" ${relation} "${earlier.prefix}" of "${other}"`;
}
