import { beforeEach, expect, test, vi } from "vitest";
import type { ImageImportClient } from "../../src/client/image-import-client.ts";
import type { ImportReport } from "../../src/client/import-report.ts";
import type { WatchOptions } from "../../src/client/imports.ts";
import { callerOf } from "../../src/http/caller.ts";
import { MOST_LISTENERS } from "../../src/http/listeners.ts";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { LocalApi } from "./local-api.ts";

const RUNNING: ImportReport = {
  ...{ image_id: "", status: "importing", state: "running", stores: [], task: null },
  ...{ run_id: "run", live: null, message: null, failure: null },
};

const stack = new SharedStack();
let client: ImageImportClient;
let api: LocalApi;
let imageId: string;
/** The options of each watch so far. */
let watched: WatchOptions[];

beforeEach(async () => {
  client = await stack.connect();
  ({ id: imageId } = await client.images.create({ owner: "ours", visibility: "public" }));
  watched = [];
  vi.spyOn(client.imports, "report").mockResolvedValue(RUNNING);
  // An import that continues until its listener leaves.
  vi.spyOn(client.imports, "watch").mockImplementation(async function* (_, options = {}) {
    watched.push(options);
    await new Promise<void>((resolve) => {
      if (options.ended?.aborted === true) resolve();
      options.ended?.addEventListener("abort", () => {
        resolve();
      });
    });
  });
  api = await LocalApi.open({
    stack,
    client,
    callerOf: (headers) => {
      const [project = "", user = ""] = String(headers["x-auth-token"]).split("/");
      return callerOf(user, project === "" ? null : project, ["admin"]);
    },
  });
});

/** A listener, whose answer is held: fetch gives up answers that the program has forgotten. */
async function listen(token: string): Promise<{ readonly status: number; leave(): Promise<void> }> {
  const answer = await fetch(`${api.url}/v1/imports/${imageId}/events`, {
    headers: { "x-auth-token": token },
  });
  return {
    status: answer.status,
    leave: async () => {
      await answer.body?.cancel();
    },
  };
}

test("a project that follows too many imports is refused, and others are not", async () => {
  const listeners = await Promise.all(
    Array.from({ length: MOST_LISTENERS }, (_, n) => listen(`ours/${String(n)}`)),
  );
  expect(new Set(listeners.map(({ status }) => status))).toEqual(new Set([200]));
  const refused = await fetch(`${api.url}/v1/imports/${imageId}/events`, {
    headers: { "x-auth-token": "ours/another" },
  });
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "5"]);
  expect(await refused.json()).toMatchObject({
    error: { code: 429, message: expect.stringContaining(String(MOST_LISTENERS)) as string },
  });
  const other = await listen("theirs/one");
  expect(other.status).toBe(200);
  await listeners[0]?.leave();
  await vi.waitUntil(async () => {
    const again = await listen("ours/again");
    return again.status === 200;
  }, PATIENCE);
  api.stop();
  // Answers that end do not keep the server from its end.
  await api.app.close();
});

test("listeners of one project share its queries, and other projects have their own", async () => {
  await Promise.all(["ours/a", "ours/b", "theirs/a", "/alone", "/other"].map(listen));
  expect(new Set(watched.map(({ party }) => party))).toEqual(
    new Set(["project ours", "project theirs", "user alone", "user other"]),
  );
  api.stop();
});
