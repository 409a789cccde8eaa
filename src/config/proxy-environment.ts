import { isIP } from "node:net";
import ipaddr from "ipaddr.js";

/** A proxy between a client and a server. */
export interface ProxyBetween {
  /** The environment variable that names it. */
  readonly variable: string;
  /** Its host and port, without the credentials that its URL may have. */
  readonly proxy: string;
}

// grpc-js reads only these, in this order: @grpc/grpc-js/build/src/http_proxy.js.
const GRPC_PROXIES = ["grpc_proxy", "https_proxy", "http_proxy"];
const GRPC_EXCEPTIONS = ["no_grpc_proxy", "no_proxy"];

/** Variables, in upper or lower case, that name a proxy, or hosts that are reached without one. */
const PROXY_VARIABLE = /^(no_)?([a-z]+_)?proxy$/i;

/**
 * Options of a gRPC channel, as grpc-js names them. A `NativeConnection` has no channel, and
 * ignores them.
 */
export interface ChannelArgs {
  readonly channelArgs?: { readonly "grpc.enable_http_proxy": 0 };
}

/**
 * The environment without the variables that name proxies, for a program that connects only to this
 * machine.
 */
export function withoutProxies(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !PROXY_VARIABLE.test(name)));
}

/**
 * Options of a gRPC connection that uses no proxy for a server on this machine. Connections to
 * other machines still use the proxy of the environment.
 */
export function directToLoopback<T extends { readonly address?: string }>(
  options: T,
): T & ChannelArgs {
  if (!isThisMachine(options.address)) return options;
  return { ...options, channelArgs: { "grpc.enable_http_proxy": 0 } };
}

/**
 * The proxy of the environment that a gRPC client uses for a server; undefined when it connects
 * directly.
 *
 * @param address - `host:port`. Default: a server on this machine
 */
export function proxyBefore(
  address: string | undefined,
  env: NodeJS.ProcessEnv = process.env,
): ProxyBetween | undefined {
  if (isThisMachine(address)) return undefined;
  const variable = GRPC_PROXIES.find((name) => (env[name] ?? "") !== "");
  const url = env[variable ?? ""] ?? "";
  if (variable === undefined || !URL.canParse(url)) return undefined;
  const { protocol, host } = new URL(url);
  if (protocol !== "http:" || isException(hostOf(address ?? ""), env)) return undefined;
  return { variable, proxy: host };
}

function isException(host: string, env: NodeJS.ProcessEnv): boolean {
  const list = GRPC_EXCEPTIONS.map((name) => env[name] ?? "").find((text) => text !== "");
  if (list === undefined) return false;
  return list.split(",").some((each) => {
    if (host.endsWith(each)) return true;
    if (isIP(host) !== 4 || !ipaddr.IPv4.isValidCIDR(each)) return false;
    return ipaddr.IPv4.parse(host).match(ipaddr.IPv4.parseCIDR(each));
  });
}

/**
 * True if an address of gRPC (`host:port`, `[ip]:port`, `unix:path`, `dns:///host:port`) is one of
 * this machine.
 */
export function isThisMachine(address: string | undefined): boolean {
  // Temporal's own default is localhost:7233.
  if (address === undefined || /^unix(-abstract)?:/.test(address)) return true;
  const host = hostOf(address).replace(/\.$/, "").toLowerCase();
  if (host === "localhost" || host.endsWith(".localhost")) return true;
  if (isIP(host) === 0) return false;
  // A mapped address (::ffff:127.0.0.1) counts as the mapped one. A connection to "any address"
  // reaches this machine.
  const range = ipaddr.process(host).range();
  return range === "loopback" || range === "unspecified";
}

function hostOf(address: string): string {
  const authority = address.replace(/^(dns|ipv[46]):(\/\/[^/]*\/)?(?!\d+$)/, "");
  const [, bracketed] = /^\[([^\]]*)\]/.exec(authority) ?? [];
  if (bracketed !== undefined) return bracketed;
  return isIP(authority) === 6 ? authority : authority.replace(/:[^:]*$/, "");
}
