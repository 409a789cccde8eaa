import { loadClientConnectConfig } from "@temporalio/envconfig";
import { directToLoopback, type ChannelArgs } from "./proxy-environment.ts";

/** How the Temporal server is reached. */
export interface TemporalAddress {
  readonly namespace: string;
  readonly connection: ReturnType<typeof loadClientConnectConfig>["connectionOptions"] &
    ChannelArgs;
}

/**
 * Reads Temporal's own variables and configuration file (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,
 * `TEMPORAL_TLS_*`, `TEMPORAL_API_KEY`, …): the same that the `temporal` command reads. An address
 * that is `known` stands behind what the environment says. A server on this machine is reached
 * without the proxy that the environment names.
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

/** A variable that is set to nothing is not set: compose files and shells can hardly unset one. */
function given(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
