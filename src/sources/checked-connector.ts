import { lookup as systemLookup, type LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { rootCertificates } from "node:tls";
import ipaddr from "ipaddr.js";
import { buildConnector } from "undici";
import { isNamed, type EgressPolicy } from "./egress-policy.ts";
import { openTunnel, type OutboundProxy } from "./proxy-tunnel.ts";

/** Settings of {@link checkedConnector}. */
export interface ConnectionSettings {
  /** For name resolution, connection and TLS together, in ms. */
  readonly connectTimeoutMs: number;
  /** PEM certificates of authorities trusted in addition to the usual ones. Default: none. */
  readonly authorities?: string | undefined;
  /** Default: origins are reached directly; the proxies of the environment are not used. */
  readonly proxy?: OutboundProxy | undefined;
  /** Resolves all addresses of a name. Default: the system's lookup. */
  readonly lookup?: NameLookup | undefined;
}

/** Resolves all addresses of a name. */
export type NameLookup = (
  host: string,
  options: { readonly all: true },
  done: (error: NodeJS.ErrnoException | null, addresses?: LookupAddress[]) => void,
) => void;

/**
 * Makes the connections of downloads, only to addresses that the policy allows. A name is resolved
 * once, all of its addresses must be allowed, and the connection goes to one of these.
 * The name is not resolved again: a proxy gets the address. An origin on this machine is reached
 * without the proxy, for which the address would mean another machine.
 */
export function checkedConnector(
  policy: EgressPolicy,
  { connectTimeoutMs, authorities, lookup = systemLookup, proxy }: ConnectionSettings,
): buildConnector.connector {
  const trusted = authorities === undefined ? undefined : [...rootCertificates, authorities];
  const checkedLookup: LookupFunction = (host, options, done) => {
    lookup(host, { ...options, all: true }, (error, addresses = []) => {
      const failure = error ?? failureOf(policy, host, addresses);
      const [first] = addresses;
      if (failure !== undefined || first === undefined) done(failure ?? notFound(host), "", 0);
      else if (options.all === true) done(null, addresses);
      else done(null, first.address, first.family);
    });
  };
  const connect = buildConnector({
    timeout: connectTimeoutMs,
    lookup: checkedLookup,
    ...(trusted === undefined ? {} : { ca: trusted }),
  });
  const direct: buildConnector.connector = (options, done) => {
    const host = hostOf(options);
    // An address needs no lookup, so that it is checked here.
    const failure = isIP(host) === 0 ? undefined : failureOf(policy, host, [{ address: host }]);
    if (failure === undefined) connect(options, done);
    else done(failure, null);
  };
  if (proxy === undefined) return direct;
  const exceptions = new ProxyExceptions(proxy.exceptions);
  return (options, done) => {
    const reach = async (): Promise<void> => {
      const address = await checkedAddress(policy, hostOf(options), checkedLookup);
      if (exceptions.include(hostOf(options), address)) {
        direct(options, done);
        return;
      }
      const tunnel = await openTunnel(proxy, {
        address,
        port: portOf(options),
        timeoutMs: connectTimeoutMs,
        authorities: trusted,
      });
      // The certificate of the origin must still be that of its name.
      if (options.protocol === "https:") connect({ ...options, httpSocket: tunnel }, done);
      else done(null, tunnel.setNoDelay(true));
    };
    reach().catch((error: unknown) => {
      done(error as Error, null);
    });
  };
}

/**
 * The address that a proxy gets: the first one, after all addresses of the name were checked.
 */
async function checkedAddress(
  policy: EgressPolicy,
  host: string,
  lookup: LookupFunction,
): Promise<string> {
  if (isIP(host) !== 0) {
    policy.requireAddress(host, host);
    return host;
  }
  return new Promise((resolve, reject) => {
    lookup(host, {}, (error, address) => {
      if (error === null) resolve(address as string);
      else reject(error);
    });
  });
}

function hostOf({ hostname }: buildConnector.Options): string {
  return hostname.replace(/^\[(.*)\]$/, "$1");
}

function portOf({ port, protocol }: buildConnector.Options): number {
  if (port !== "") return Number(port);
  return protocol === "https:" ? 443 : 80;
}

/** The origins that are reached without the proxy. */
class ProxyExceptions {
  readonly #names: readonly string[];
  readonly #networks: readonly ReturnType<typeof ipaddr.parseCIDR>[];

  constructor(exceptions: readonly string[]) {
    this.#networks = exceptions
      .filter((each) => ipaddr.isValidCIDR(each))
      .map((each) => ipaddr.parseCIDR(each));
    this.#names = exceptions.filter((each) => !ipaddr.isValidCIDR(each));
  }

  include(host: string, address: string): boolean {
    const name = host.replace(/\.$/, "").toLowerCase();
    if (this.#names.some((pattern) => isNamed(name, pattern))) return true;
    const parsed = ipaddr.process(address);
    if (["loopback", "unspecified"].includes(parsed.range())) return true;
    return this.#networks.some(
      ([network, bits]) => network.kind() === parsed.kind() && parsed.match(network, bits),
    );
  }
}

function failureOf(
  policy: EgressPolicy,
  host: string,
  addresses: readonly Pick<LookupAddress, "address">[],
): Error | undefined {
  try {
    for (const { address } of addresses) policy.requireAddress(host, address);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

function notFound(host: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`No address for ${host}`), { code: "ENOTFOUND" });
}
