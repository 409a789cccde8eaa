import { resolve } from "node:path";
import { z } from "zod";
import { bytes } from "./quantities.ts";

/** What a slower rate would do: one block of 1 MiB would look like a store that has stalled. */
const SLOWEST_BYTES_PER_SECOND = 64 * 1024;

/** The bounds of S3 for a part that is not the last one. */
const SMALLEST_PART_BYTES = 5 * 1024 ** 2;
const LARGEST_PART_BYTES = 5 * 1024 ** 3;

const ofEveryStore = {
  bandwidth_limit: bytes
    .refine((rate) => rate >= SLOWEST_BYTES_PER_SECOND, "must be at least 64KiB per second")
    .optional(),
  read_only: z.boolean().default(false),
  disabled: z.boolean().default(false),
};

const fileMode = z
  // YAML takes the number 0440 for four hundred and forty.
  .string('must be octal text in quotes, such as "0440"')
  .transform((text, context) => {
    const mode = /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : undefined;
    if (mode !== undefined && (mode & 0o222) === 0 && (mode & 0o400) !== 0) return mode;
    const message =
      mode === undefined
        ? `must be octal text such as "0440", not "${text}"`
        : `must let the owner read, and nobody write: published files are read-only, and "${text}" is not`;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  });

// Numbers alone: what a name means is for the host's name service to say, and the worker's host may
// have another one.
const fileOwner = z
  .string()
  .regex(/^\d{1,10}:\d{1,10}$/, 'must be "uid:gid" in numbers, such as "64055:64055"')
  .transform((text) => {
    const [uid = 0, gid = 0] = text.split(":").map(Number);
    return { uid, gid };
  });

const fileStore = z.strictObject({
  type: z.literal("file"),
  path: z.string().min(1),
  zero_copy: z.boolean().default(true),
  mode: fileMode.default(0o440),
  owner: fileOwner.optional(),
  ...ofEveryStore,
});

/**
 * What is wrong with the address of an S3 server; it is never repeated, as it may hold a password.
 */
function mistakeInEndpoint(text: string): string | undefined {
  if (!URL.canParse(text)) return "must be a URL such as https://s3.example.org";
  const { protocol, username, password, pathname, search, hash } = new URL(text);
  if (username !== "" || password !== "") return `must hold no credentials: ${CREDENTIALS_CHAIN}`;
  if (protocol !== "http:" && protocol !== "https:") return "must be a URL of http or https";
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

const PREFIX_RULE = 'must be names parted by "/", none of them empty, "." or ".."';
const prefix = z
  .string()
  .regex(/^(?:(?!\.{1,2}(?:\/|$))[^/]+(?:\/|$))*$/, PREFIX_RULE)
  .transform((text) => (text === "" || text.endsWith("/") ? text : `${text}/`));

const s3Store = z.strictObject({
  type: z.literal("s3"),
  bucket: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "must be 3 to 63 of a-z, 0-9, . and -"),
  prefix: prefix.default(""),
  region: z.string().min(1).optional(),
  endpoint: endpoint.optional(),
  path_style: z.boolean().optional(),
  ca_file: z.string().min(1).optional(),
  checksums: z.enum(["when_supported", "when_required"]).default("when_supported"),
  part_size: bytes
    .refine(
      (size) => size >= SMALLEST_PART_BYTES && size <= LARGEST_PART_BYTES,
      "must be at least 5MiB and at most 5GiB",
    )
    .default(16 * 1024 ** 2),
  parts_in_flight: z.int().min(1).max(16).default(4),
  ...ofEveryStore,
});

/** One store in the configuration file. */
export const configuredStore = z.discriminatedUnion("type", [fileStore, s3Store], {
  error: 'must be of the type "file" or "s3"',
});

// The words of AWS, of Glance's s3 driver and of the other tools that ask for the same.
const CREDENTIAL = /access.?key|secret|password|token|credential/i;

/**
 * What to tell of settings that do not exist: where credentials are looked for, if that is what
 * they are.
 */
export function mistakesInNames(names: readonly string[]): string[] {
  const credentials = names.filter((name) => CREDENTIAL.test(name));
  const others = names.filter((name) => !CREDENTIAL.test(name));
  return [
    ...(credentials.length === 0
      ? []
      : [`${quoted(credentials)} must not be in this file: ${CREDENTIALS_CHAIN}`]),
    ...(others.length === 0
      ? []
      : [`Unrecognized ${others.length === 1 ? "key" : "keys"}: ${quoted(others)}`]),
  ];
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(", ");
}

/** A store's settings: sizes in bytes, paths absolute, every default in its place. */
export type StoreSettings = ReturnType<typeof settingsOf>;

/**
 * The settings of one store.
 *
 * @param folder - where relative paths start
 * @param env - for the region, where the file names none
 */
export function settingsOf(
  store: z.output<typeof configuredStore>,
  folder: string,
  env: NodeJS.ProcessEnv,
) {
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
    } as const;
  }
  return {
    type: store.type,
    bucket: store.bucket,
    prefix: store.prefix,
    // A variable that is set to nothing counts as not set.
    region: store.region ?? (env["AWS_REGION"] || "us-east-1"),
    endpoint: store.endpoint,
    // AWS wants the bucket in the host's name; Ceph RGW, MinIO and Garage would need a wildcard in
    // DNS for that.
    caFile: store.ca_file === undefined ? undefined : resolve(folder, store.ca_file),
    pathStyle: store.path_style ?? store.endpoint !== undefined,
    checksums: store.checksums,
    partSizeBytes: store.part_size,
    partsInFlight: store.parts_in_flight,
    ...common,
  } as const;
}

/** Whether images can be imported into it. */
export function takesImports({ readOnly, disabled }: StoreSettings): boolean {
  return !readOnly && !disabled;
}

/** Two stores in one place would take each other's copies for their own, and remove them. */
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
    return `path: "${store.path}" is the path of "${other}" already`;
  }
  if (store.type !== "s3" || earlier.type !== "s3") return undefined;
  if (store.endpoint !== earlier.endpoint || store.bucket !== earlier.bucket) return undefined;
  if (store.prefix === earlier.prefix) {
    return `prefix: "${store.prefix}" of bucket "${store.bucket}" is the place of "${other}" already`;
  }
  const isInside = store.prefix.startsWith(earlier.prefix);
  if (!isInside && !earlier.prefix.startsWith(store.prefix)) return undefined;
  const relation = isInside ? "lies inside" : "holds";
  return `prefix: "${store.prefix}" of bucket "${store.bucket}" ${relation} "${earlier.prefix}" of "${other}"`;
}
