import { lookup as systemLookup, type LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { rootCertificates } from "node:tls";
import { buildConnector } from "undici";
import type { EgressPolicy } from "./egress-policy.ts";

/** Settings of {@link checkedConnector}. */
export interface ConnectionSettings {
  /** For name, connection and TLS together, in ms. */
  readonly connectTimeoutMs: number;
  /** Certificates of authorities that are trusted beside the usual ones, in PEM. Default: none. */
  readonly authorities?: string | undefined;
  /** Asks for all addresses of a name. Default: the system's. */
  readonly lookup?: NameLookup | undefined;
}

/** Asks for all addresses of a name. */
export type NameLookup = (
  host: string,
  options: { readonly all: true },
  done: (error: NodeJS.ErrnoException | null, addresses?: LookupAddress[]) => void,
) => void;

/**
 * The one way out: makes connections, each to an address that the policy was asked about. A name is resolved once,
 * every address that it has must pass, and the connection goes to one of those; nobody resolves it again.
 */
export function checkedConnector(
  policy: EgressPolicy,
  { connectTimeoutMs, authorities, lookup = systemLookup }: ConnectionSettings,
): buildConnector.connector {
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
    ...(authorities === undefined ? {} : { ca: [...rootCertificates, authorities] }),
  });
  return (options, done) => {
    const host = options.hostname.replace(/^\[(.*)\]$/, "$1");
    // Nobody looks up what is an address already.
    const failure = isIP(host) === 0 ? undefined : failureOf(policy, host, [{ address: host }]);
    if (failure === undefined) connect(options, done);
    else done(failure, null);
  };
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
