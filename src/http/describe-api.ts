import { pino } from "pino";
import { ImageImportClient } from "../client/image-import-client.ts";
import { parseConfig } from "../config/config.ts";
import { Health } from "../health/health.ts";
import { openIdentity } from "./open-identity.ts";
import { buildApi } from "./server.ts";

/** The OpenAPI document of the API, made without a running service. `npm run docs` writes it. */
export async function describeApi(): Promise<object> {
  const config = parseConfig("stores: { local: { type: file, path: /local } }", "/config.yaml");
  const app = await buildApi(
    {
      client: await ImageImportClient.connect({}),
      config,
      settings: config.api,
      identity: await openIdentity(config.api.identity),
      health: new Health("api"),
      stopping: new AbortController().signal,
    },
    pino({ level: "silent" }),
  );
  await app.close();
  return app.swagger();
}
