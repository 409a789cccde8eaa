import { setMaxListeners } from "node:events";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import { ImageImportClient } from "../client/image-import-client.ts";
import type { Config } from "../config/config.ts";
import type { TemporalAddress } from "../config/temporal-address.ts";
import { ImportError } from "../domain/import-failure.ts";
import { timerMs } from "../domain/timer-ms.ts";
import { Health } from "../health/health.ts";
import { cannotListen, urlOf } from "../health/health-server.ts";
import { openIdentity } from "./open-identity.ts";
import { buildApi, type Api } from "./server.ts";

/** Settings of the API. */
export interface ApiOptions {
  readonly config: Config;
  readonly databaseUrl: string;
  readonly temporal: TemporalAddress;
  readonly logger: Logger;
  /** Called once it listens. */
  readonly onReady: (addresses: { readonly api_url: string }) => void;
}

/** Runs the HTTP API until a signal stops it. */
export async function runApi(options: ApiOptions): Promise<void> {
  const { config, databaseUrl, temporal, logger } = options;
  const { host, port } = config.api;
  const client = await ImageImportClient.connect({ temporal, databaseUrl, config });
  const identity = await openIdentity(config.api.identity, (line) => {
    logger.warn(line);
  });
  const stopping = new AbortController();
  // Every running request has a listener on it.
  setMaxListeners(0, stopping.signal);
  const health = new Health("api");
  const context = {
    ...{ client, config, settings: config.api, identity, health },
    stopping: stopping.signal,
  };
  let stage: "starting" | "running" | "stopping" = "starting";
  health.follow(() => stage);
  watch(health, client);
  const app = await buildApi(context, logger);
  try {
    await listen(app, host, port);
    stage = "running";
    const { port: taken } = app.server.address() as AddressInfo;
    options.onReady({ api_url: urlOf(host, taken) });
    const signal = await nextSignal();
    stage = "stopping";
    logger.info(
      { signal },
      "The API takes no new requests, and stops once the running ones have ended",
    );
    const drained = setTimeout(() => {
      stopping.abort(new ImportError("Interrupted", "The server is stopping"));
    }, timerMs(config.api.drainMs));
    await app.close().finally(() => {
      clearTimeout(drained);
    });
  } finally {
    health.stop();
    await identity.close();
    await client.close();
  }
}

async function listen(app: Api, host: string, port: number): Promise<void> {
  try {
    await app.listen({ host, port, listenTextResolver: (address) => `Listens at ${address}` });
  } catch (error) {
    throw cannotListen("api", { host, port }, error);
  }
}

async function nextSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.once(signal, () => {
        resolve(signal);
      });
    }
  });
}

/** Checks regularly the servers and the volume that the API needs. */
function watch(health: Health, client: ImageImportClient): void {
  health.watch("postgres", { work: () => client.admin.requireCatalogue() });
  health.watch("temporal", { work: () => client.admin.requireTemporal() });
  health.watch("staging", { work: () => client.admin.requireStaging() });
}
