import { loadClientConnectConfig } from "@temporalio/envconfig";
import { directToLoopback, type ChannelArgs } from "./proxy-environment.ts";

/** The address of the Temporal server, and the options of a connection. */
export interface TemporalAddress {
  readonly namespace: string;
  readonly connection: ReturnType<typeof loadClientConnectConfig>["connectionOptions"] &
    ChannelArgs;
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
