import { loadClientConnectConfig } from "@temporalio/envconfig";

/** How the Temporal server is reached. */
export interface TemporalAddress {
  readonly namespace: string;
  readonly connection: ReturnType<typeof loadClientConnectConfig>["connectionOptions"];
}

/**
 * Reads Temporal's own variables and configuration file (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_TLS_*`,
 * `TEMPORAL_API_KEY`, …): the same that the `temporal` command reads. An address that is `known` stands behind what
 * the environment says.
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
    connection: address === undefined ? connection : { ...connection, address },
  };
}

/** A variable that is set to nothing is not set: compose files and shells can hardly unset one. */
function given(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
