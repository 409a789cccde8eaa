import { resolve } from "node:path";
import ipaddr from "ipaddr.js";
import { z } from "zod";
import { bytes, durationMs } from "./quantities.ts";

const network = z
  .string()
  .refine((text) => ipaddr.isValidCIDR(text), "must be a network such as 10.0.0.0/8");

const host = z
  .string()
  .toLowerCase()
  .regex(
    /^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/,
    "must be a name such as example.org or *.example.org",
  );

/** Why a text is not the URL of a proxy; the text is not repeated, as it may hold a password. */
function mistakeInProxy(text: string): string | undefined {
  if (!URL.canParse(text)) return "must be a URL such as http://proxy.example.org:3128";
  const { protocol, username, password, pathname, search, hash } = new URL(text);
  if (username !== "" || password !== "") {
    return "must hold no credentials: put `user:password` into the file that proxy_credentials_file names";
  }
  if (protocol !== "http:" && protocol !== "https:") return "must be a URL of http or https";
  if (pathname !== "/" || search !== "" || hash !== "") return "must end after host and port";
  return undefined;
}

const proxyUrl = z.string().transform((text, context) => {
  const message = mistakeInProxy(text);
  if (message === undefined) return new URL(text).origin;
  context.addIssue({ code: "custom", message });
  return z.NEVER;
});

/** What downloads from the web may reach, and how long they wait. */
export const webSource = z
  .strictObject({
    schemes: z
      .array(z.enum(["http", "https"]))
      .min(1)
      .default(["http", "https"]),
    // Glance's.
    ports: z.array(z.int().min(1).max(65535)).min(1).default([80, 443]),
    allowed_networks: z.array(network).default([]),
    allowed_hosts: z.array(host).default([]),
    denied_hosts: z.array(host).default([]),
    ca_file: z.string().min(1).optional(),
    proxy: proxyUrl.optional(),
    proxy_credentials_file: z.string().min(1).optional(),
    no_proxy: z.array(z.union([network, host])).default([]),
    connect_timeout: durationMs.default(10_000),
    header_timeout: durationMs.default(15_000),
    idle_timeout: durationMs.default(30_000),
    minimum_rate: bytes.default(1024),
    connections: z.int().min(1).max(8).default(1),
    bandwidth_limit: bytes.optional(),
  })
  .prefault({});

/** Settings of downloads: times in ms, rates in bytes per second, paths absolute. */
export type WebSettings = ReturnType<typeof webSettingsOf>;

/**
 * The settings of downloads.
 *
 * @param folder - where relative paths start
 */
export function webSettingsOf(web: z.output<typeof webSource>, folder: string) {
  return {
    schemes: web.schemes,
    ports: web.ports,
    allowedNetworks: web.allowed_networks,
    allowedHosts: web.allowed_hosts,
    deniedHosts: web.denied_hosts,
    caFile: web.ca_file === undefined ? undefined : resolve(folder, web.ca_file),
    proxyUrl: web.proxy,
    proxyCredentialsFile:
      web.proxy_credentials_file === undefined
        ? undefined
        : resolve(folder, web.proxy_credentials_file),
    noProxy: web.no_proxy,
    connectTimeoutMs: web.connect_timeout,
    headerTimeoutMs: web.header_timeout,
    idleTimeoutMs: web.idle_timeout,
    minimumRate: web.minimum_rate,
    connections: web.connections,
    bandwidthLimit: web.bandwidth_limit,
  } as const;
}
