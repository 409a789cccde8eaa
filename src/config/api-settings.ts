import { resolve } from "node:path";
import { z } from "zod";
import { durationMs } from "./quantities.ts";

const LOOPBACK = ["127.0.0.1", "::1", "localhost"];

const keystone = z.strictObject({
  url: z
    .url({ protocol: /^https?$/ })
    .meta({ description: "The address of Keystone, with `/v3`.", values: "URL" }),
  ca_file: z.string().min(1).optional().meta({
    description: "Certificate authorities for Keystone, in addition to those of Node.",
    values: "path",
    default: "none",
  }),
  cache: durationMs.default(300_000).meta({
    description: "How long the answer to a token is kept, at most until the token expires.",
  }),
});

/** The section `api`. @internal */
export const api = z
  .strictObject({
    host: z.string().min(1).default("127.0.0.1").meta({
      description:
        "The address that the HTTP API is served on. `0.0.0.0`: every address of the host.",
      values: "IP address or name of this host",
    }),
    port: z.int().min(0).max(65_535).default(9292).meta({
      description:
        "Its port. 0 is any free one. `npm start` always takes a free one and writes `api_url` into `stack.json`.",
    }),
    public_url: z
      .url({ protocol: /^https?$/ })
      .optional()
      .meta({
        description:
          "The address of the API in its answers, where it is behind a proxy: without `/v2`.",
        values: "URL",
        default: "the address that the request names",
      }),
    identity: z.enum(["none", "tokens", "keystone"]).default("none").meta({
      description:
        "The way in which callers identify themselves: `none`, everyone is the administrator; `tokens`, with a token of `api.tokens_file`, also as the password of HTTP basic; `keystone`, with a token of OpenStack's Keystone.",
    }),
    allow_anyone: z.boolean().default(false).meta({
      description:
        "`true`: the API is also served without identification on an address that other hosts reach. Every caller is the administrator.",
    }),
    tokens_file: z.string().min(1).optional().meta({
      description:
        "The file of the tokens: their digests, users, projects and roles. A change takes effect within a second.",
      values: "path",
      default: "none; `identity: tokens` needs it",
    }),
    keystone: keystone.optional().meta({
      description: "OpenStack's identity service.",
      default: "none; `identity: keystone` needs it",
    }),
    glance_regions: z
      .record(z.string().min(1), z.url({ protocol: /^https?$/ }))
      .default({})
      .meta({
        description:
          "The addresses of other services that speak Glance's API, by the name of their region: `glance-download` imports from them, with the token of the caller. Without an entry, `identity: keystone` looks a region up in Keystone's catalogue.",
        values: "region: URL",
        default: "none",
      }),
    allowed_origins: z.array(z.string().min(1)).default([]).meta({
      description:
        "Origins of web pages, such as `https://horizon.example.org`, whose scripts may use the API. `*` is any.",
    }),
    idle_timeout: durationMs.default(60_000).meta({
      description: "A request or an answer that moves no byte for this long is ended.",
    }),
    drain: durationMs.default(30_000).meta({
      description:
        "How long running uploads may continue after SIGTERM. `npm start` and `image-import dev` end their API after 40 s.",
    }),
  })
  .prefault({})
  .superRefine((settings, context) => {
    const needs = { none: undefined, tokens: "tokens_file", keystone: "keystone" } as const;
    const needed = needs[settings.identity];
    if (needed !== undefined && settings[needed] === undefined) {
      context.addIssue({
        code: "custom",
        path: [needed],
        message: `must be given for identity: ${settings.identity}`,
      });
    }
    const isOpen = settings.identity === "none" && !LOOPBACK.includes(settings.host);
    if (isOpen && !settings.allow_anyone) {
      context.addIssue({
        code: "custom",
        path: ["host"],
        message: `identity: none is for this host alone, and "${settings.host}" is reached from others; choose identity: tokens or keystone, or set allow_anyone: true`,
      });
    }
  });

/** The settings of the HTTP API. */
export interface ApiSettings {
  readonly host: string;
  readonly port: number;
  /** Without a slash at the end. Default: the address that the request names. */
  readonly publicUrl: string | undefined;
  readonly identity: IdentitySettings;
  /** The addresses of other services by region. */
  readonly glanceRegions: Readonly<Record<string, string>>;
  readonly allowedOrigins: readonly string[];
  readonly idleTimeoutMs: number;
  readonly drainMs: number;
}

/** The way in which callers identify themselves. */
export type IdentitySettings =
  | {
      readonly mode: "none";
      /** True: requests that name another host than this one are served, too. */
      readonly allowAnyone: boolean;
      /** Origins of web pages that may call. */
      readonly origins: readonly string[];
    }
  | { readonly mode: "tokens"; readonly file: string }
  | ({ readonly mode: "keystone" } & KeystoneSettings);

/** The settings of OpenStack's identity service. */
export interface KeystoneSettings {
  /** With `/v3`, without a slash at the end. */
  readonly url: string;
  readonly caFile: string | undefined;
  readonly cacheMs: number;
}

/** The settings of the API. Relative paths start at the folder. @internal */
export function apiSettingsOf(settings: z.output<typeof api>, folder: string): ApiSettings {
  return {
    host: settings.host,
    port: settings.port,
    publicUrl: settings.public_url?.replace(/\/+$/, ""),
    identity: identityOf(settings, folder),
    glanceRegions: settings.glance_regions,
    allowedOrigins: settings.allowed_origins,
    idleTimeoutMs: settings.idle_timeout,
    drainMs: settings.drain,
  };
}

function identityOf(settings: z.output<typeof api>, folder: string): IdentitySettings {
  const { identity, tokens_file: file, keystone: server } = settings;
  if (identity === "tokens" && file !== undefined) {
    return { mode: "tokens", file: resolve(folder, file) };
  }
  if (identity === "keystone" && server !== undefined) {
    return {
      mode: "keystone",
      url: server.url.replace(/\/+$/, ""),
      caFile: server.ca_file === undefined ? undefined : resolve(folder, server.ca_file),
      cacheMs: server.cache,
    };
  }
  const { allow_anyone: allowAnyone, allowed_origins: origins } = settings;
  return { mode: "none", allowAnyone, origins };
}
