import { expect, test, vi } from "vitest";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import type { StartOptions } from "../../src/client/start-options.ts";
import { readConfig } from "../../src/config/config.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { ApiProcess } from "./api-process.ts";
import { LocalApi } from "./local-api.ts";
import { WireClient } from "./wire-client.ts";

const stack = new SharedStack();

test.each([
  ["/v1/imports/{id}", { accept_timeout_ms: 600_000 }, { accepted: false, task_id: null }],
  ["/v2/images/{id}/import", { method: { name: "glance-direct" } }, {}],
])(
  "after SIGTERM a start at %s that no worker answers ends, and the import continues",
  async (path, json, answer) => {
    const env = await stack.environmentWithoutWorker();
    const api = await ApiProcess.start(stack, { drain: "1s" }, [], env);
    const wire = new WireClient(api.url);
    const imageId = await stack.stagedImage();
    const { temporal_address: address, database_url: databaseUrl, config } = stack.file;
    const client = await ImageImportClient.connect({
      ...{ databaseUrl, config: readConfig(config) },
      temporal: { address, namespace: env.TEMPORAL_NAMESPACE },
    });
    try {
      const started = wire.send("POST", path.replace("{id}", imageId), { json });
      await vi.waitUntil(async () => (await stateOf(client, imageId)) === "waiting", PATIENCE);
      expect(await api.stop("SIGTERM")).toBe(0);
      const { status, body } = await started;
      expect(status).toBe(202);
      expect(body).toMatchObject(answer);
      expect(await stateOf(client, imageId)).toBe("waiting");
    } finally {
      await client.close();
    }
  },
);

test.each([
  ["/v1/imports/{id}", {}],
  ["/v2/images/{id}/import", { method: { name: "glance-direct" } }],
])(
  "a start at %s that Temporal does not have yet ends with 503, and can be repeated",
  async (path, json) => {
    const client = await stack.connect();
    const imageId = await stack.stagedImage();
    await client.images.change(imageId, { owner: "ours" });
    let begin = (): void => undefined;
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    vi.spyOn(client.imports, "start").mockImplementationOnce((_, { signal }: StartOptions = {}) => {
      begin();
      return new Promise((_resolve, reject) => {
        signal?.addEventListener("abort", () => {
          reject(new ImportError("Interrupted", "It was interrupted before it was made"));
        });
      });
    });
    const api = await LocalApi.open({ stack, client });
    const wire = new WireClient(api.url);
    const started = wire.send("POST", path.replace("{id}", imageId), { json });
    await begun;
    api.stop();
    const { status, body, headers } = await started;
    expect([status, headers.get("retry-after")]).toEqual([503, "5"]);
    expect(body.error.message).toContain(imageId);
    expect(body.error.hint).toContain("again");

    const next = await LocalApi.open({ stack, client });
    const again = await new WireClient(next.url).send("POST", path.replace("{id}", imageId), {
      json,
    });
    expect(again.status).toBe(202);
  },
);

async function stateOf(client: ImageImportClient, imageId: string): Promise<string | undefined> {
  return (await client.imports.report(imageId).catch(() => undefined))?.state;
}

test("a download whose image is found only after the time to drain is not begun", async () => {
  const client = await stack.connect();
  const imageId = await stack.activeImage();
  await client.images.change(imageId, { owner: "ours" });
  const api = await LocalApi.open({ stack, client });
  const showFor = client.images.showFor.bind(client.images);
  vi.spyOn(client.images, "showFor").mockImplementationOnce(async (...asked) => {
    const seen = await showFor(...asked);
    api.stop();
    return seen;
  });

  const { status } = await new WireClient(api.url).send("GET", `/v2/images/${imageId}/file`);

  expect(status).toBe(503);
});
