import { resolve } from "node:path";
import ipaddr from "ipaddr.js";
import { z } from "zod";
import type { WebSettings } from "../domain/web-settings.ts";
import { bytes, durationMs } from "./quantities.ts";

const network = z
  .string()
  .refine((text) => ipaddr.isValidCIDR(text), "must be a network such as 10.0.0.0/8")
  .meta({ values: "networks such as `10.0.0.0/8`" });

const host = z
  .string()
  .toLowerCase()
  .regex(
    /^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/,
    "must be a name such as example.org or *.example.org",
  )
  .meta({ values: "host names; `*.example.org` stands for every host below `example.org`" });

/**
 * The reason why a text is not the URL of a proxy, or undefined. It does not repeat the text, which
 * may contain a password.
 */
function mistakeInProxy(text: string): string | undefined {
  if (!URL.canParse(text)) return "must be a URL such as http://proxy.example.org:3128";
  const { protocol, username, password, pathname, search, hash } = new URL(text);
  if (username !== "" || password !== "") {
    return "must not contain credentials: put `user:password` into the file of proxy_credentials_file";
  }
  if (protocol !== "http:" && protocol !== "https:") return "must be an http or https URL";
  if (pathname !== "/" || search !== "" || hash !== "") return "must end after host and port";
  return undefined;
}

const proxyUrl = z.string().transform((text, context) => {
  const message = mistakeInProxy(text);
  if (message === undefined) return new URL(text).origin;
  context.addIssue({ code: "custom", message });
  return z.NEVER;
});

/** The section `sources.web`: the servers that downloads may reach, and how long they wait. */
export const webSource = z
  .strictObject({
    schemes: z
      .array(z.enum(["http", "https"]))
      .min(1)
      .default(["http", "https"])
      .meta({
        description: "The schemes that the URL of a download, and each redirect, may have.",
      }),
    // Glance's default.
    ports: z.array(z.int().min(1).max(65535)).min(1).default([80, 443]).meta({
      description:
        "The ports that a download, and each redirect, may use, whether the URL names the port or not.",
    }),
    allowed_networks: z.array(network).default([]).meta({
      description:
        "Networks that may be reached although they are not public. The metadata service of a cloud is reached only if its exact address is listed, such as `169.254.169.254/32`.",
      default: "none",
    }),
    allowed_hosts: z.array(host).default([]).meta({
      description: "The only hosts that a URL, and each redirect, may name.",
      default: "any host",
    }),
    denied_hosts: z.array(host).default([]).meta({
      description:
        "Hosts that neither a URL nor a redirect may name. They take precedence over `allowed_hosts`.",
      default: "none",
    }),
    ca_file: z.string().min(1).optional().meta({
      description: "Certificate authorities that are trusted in addition to the usual ones.",
      values: "path of a PEM file",
      default: "none",
    }),
    proxy: proxyUrl.optional().meta({
      description:
        "The proxy through which servers are reached, with CONNECT. The proxies of the environment are not used.",
      values: "`http://host:port` or `https://host:port`",
      default: "none",
    }),
    proxy_credentials_file: z.string().min(1).optional().meta({
      description:
        "The file that holds `user:password`, which is sent to the proxy alone. Other users must not be able to read the file.",
      values: "path",
      default: "none",
    }),
    no_proxy: z
      .array(z.union([network, host]))
      .default([])
      .meta({
        description: "Hosts and networks that are reached without the proxy.",
        default: "none",
      }),
    connect_timeout: durationMs.default(10_000).meta({
      description: "The time limit for name resolution, connection and TLS together.",
    }),
    header_timeout: durationMs.default(15_000).meta({
      description: "The time limit for the headers of a response, once connected.",
    }),
    idle_timeout: durationMs.default(30_000).meta({
      description: "How long a download may receive no byte before it connects again.",
    }),
    minimum_rate: bytes.default(1024).meta({
      description:
        "The slowest rate of a connection, measured over `sources.web.idle_timeout`. A slower connection is replaced.",
      unit: "size per second",
    }),
    connections: z.int().min(1).max(8).default(1).meta({
      description:
        "The number of connections that download one image, if the server supports ranges and sends a strong validator. Each takes 4 MiB of memory.",
    }),
    bandwidth_limit: bytes.optional().meta({
      description: "The bandwidth that all downloads of a worker share.",
      unit: "size per second",
      default: "no limit",
    }),
  })
  .prefault({});

/**
 * The settings of downloads.
 *
 * @param folder - where relative paths start
 */
export function webSettingsOf(web: z.output<typeof webSource>, folder: string): WebSettings {
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
  };
}
