import { loadClientConnectConfig } from "@temporalio/envconfig";
import { directToLoopback, type ChannelArgs } from "./proxy-environment.ts";

/** The address of the Temporal server, and the options of a connection. */
export interface TemporalAddress {
  readonly namespace: string;
  readonly connection: TemporalConnection;
}

/**
 * The settings of a connection to Temporal, as its SDK names them. The SDK's own types do not
 * compile in a program that checks the declarations of its packages.
 */
export interface TemporalConnection extends ChannelArgs {
  /** `host:port`. Default: `localhost:7233`. */
  readonly address?: string;
  /** Default: TLS if there is an `apiKey`. */
  readonly tls?: TemporalTls | boolean | null;
  readonly apiKey?: string;
  /** Headers of each call. */
  readonly metadata?: Record<string, string | Buffer>;
}

/** TLS to Temporal; certificates and keys are PEM. */
export interface TemporalTls {
  /** The name that the server's certificate must have. Default: the host of the address. */
  readonly serverNameOverride?: string;
  /** Default: the authorities that this system trusts. */
  readonly serverRootCACertificate?: Uint8Array;
  readonly clientCertPair?: { readonly crt: Uint8Array; readonly key: Uint8Array };
}

/**
 * Reads Temporal's own variables and configuration file (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,
 * `TEMPORAL_TLS_*`, `TEMPORAL_API_KEY`, …), like the `temporal` command. The environment takes
 * precedence over the `known` address. A server on this machine is reached without the proxy of the
 * environment.
 */
export function temporalAddress(known?: {
  readonly address: string;
  readonly namespace: string;
}): TemporalAddress {
  const {
    namespace,
    connectionOptions: { address: setAddress, ...connection },
  } = loadClientConnectConfig();
  const address = given(setAddress) ?? known?.address;
  return {
    namespace: given(namespace) ?? known?.namespace ?? "default",
    connection: directToLoopback({ ...connection, ...(address === undefined ? {} : { address }) }),
  };
}

/** A variable; an empty one counts as not set, because compose files can hardly unset one. */
function given(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
