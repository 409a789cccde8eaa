import { beforeEach, describe, expect, test, vi } from "vitest";
import type { ImageImportClient } from "../../src/client/image-import-client.ts";
import { UnansweredStart } from "../../src/client/unanswered-start.ts";
import {
  IMPORT_FAILURES,
  ImportError,
  UnlistedFailure,
  type ImportFailureCode,
} from "../../src/domain/import-failure.ts";
import { callerOf } from "../../src/http/caller.ts";
import { answerTo } from "../../src/http/failure-answer.ts";
import { conflict } from "../../src/http/http-failure.ts";
import { plainDocument, plainText } from "../../src/http/tenant-words.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { LocalApi } from "./local-api.ts";
import { WireClient } from "./wire-client.ts";

const SECRETS = [
  ...["10.1.2.3", "5433", "db.internal", "/srv/staging", "fe80::1", "hunter22", "INSERT INTO"],
  ...["minio.internal", "signature"],
];
const TEXT =
  'connect ECONNREFUSED 10.1.2.3:5433 (getaddrinfo ENOTFOUND db.internal), "/srv/staging/a b" of file:///srv/staging/x, [fe80::1]:5433, https://ann:hunter22@example.org/d.raw?signature=1';
const TENANT = { id: "req-7", caller: callerOf("bob", "ours", ["member"]) };
const ADMIN = { id: "req-7", caller: callerOf("root", "ours", ["admin"]) };
const CODES = Object.keys(IMPORT_FAILURES) as ImportFailureCode[];

/** The parts of the service's inside that a document has. */
function leaks(document: unknown): string[] {
  const text = JSON.stringify(document);
  return SECRETS.filter((secret) => text.includes(secret));
}

test.each(CODES)("%s has no place of the service for a tenant", (code) => {
  const error = new ImportError(code, TEXT, { hint: TEXT });
  for (const request of [TENANT, { ...TENANT, caller: undefined }]) {
    const { document } = answerTo(error, request);
    expect(leaks(document)).toEqual([]);
    expect(document.error).toMatchObject({ failure: code, message: expect.any(String) as string });
  }
});

test.each(CODES)("%s is for an administrator as it is", (code) => {
  const { document } = answerTo(new ImportError(code, TEXT), ADMIN);
  expect(document.error.message).toBe(TEXT);
});

test.each([
  ["a bug", new Error(`INSERT INTO images: ${TEXT}`)],
  ["a failure of another version", new UnlistedFailure("Strange", `INSERT INTO: ${TEXT}`)],
  ["Postgres", new ImportError("DatabaseUnavailable", `Postgres: INSERT INTO ${TEXT}`)],
  ["Temporal", new ImportError("TemporalUnavailable", TEXT)],
])("the answer to a tenant names the request and nothing of %s", (_, error) => {
  const { status, document, level } = answerTo(error, TENANT);
  expect(status).toBeGreaterThanOrEqual(500);
  expect(leaks(document)).toEqual([]);
  expect(JSON.stringify(document)).toContain("req-7");
  expect(level).toBeDefined();
});

test("a refusal that took over the text of its cause is plain, too", () => {
  const cause = new ImportError("ImageConflict", TEXT);
  expect(leaks(answerTo(conflict(cause.message, { cause }), TENANT).document)).toEqual([]);
});

test("a tenant is answered that an import may have been started", () => {
  const away = new ImportError("TemporalUnavailable", TEXT);
  const { document } = answerTo(UnansweredStart.unknown("an-image", away), TENANT);
  expect(document.error.message).toBe("It is not known whether the import was started.");
  expect(document.error.hint).toContain("an-image");
});

test("a process of the service is another process", () => {
  const text = 'Cannot stage image "a": process 4711 on node "node-1" is staging it';
  expect(plainText(text)).toBe('Cannot stage image "a": another process is staging it');
});

test.each([
  'Cannot import image "a": it is active',
  "Size mismatch: expected 12 bytes, got 10",
  "Cannot download https://example.org/disks/a.raw: the server answered 503",
  "`image-import image show a/b` shows it; 5 MiB/s of 1.5 GiB",
  "Image 1.2.3 has 7 tags",
])("a text without hosts and paths stays as it is: %s", (text) => {
  expect(plainText(text)).toBe(text);
});

describe("a document about an import", () => {
  const failure = { code: "StoreUnavailable", step: "store", store: "fast", hint: TEXT };

  test("has the code and the place of a failure of the service, and no more of it", () => {
    const report = { message: `Error: StoreUnavailable: ${TEXT}`, failure, task: null };
    expect(plainDocument(report)).toEqual({
      message:
        'Error: StoreUnavailable: store "fast": a part of the service failed; its log has the cause',
      failure: { code: "StoreUnavailable", step: "store", store: "fast" },
      task: null,
    });
  });

  test("has the reason of a failure that the request is about", () => {
    const message = "Error: FormatMismatch: verify: it is qcow2, not raw";
    const report = { message, failure: { code: "FormatMismatch", step: "verify" } };
    expect(plainDocument(report)).toEqual(report);
  });

  test("has no places, however deep", () => {
    const document = {
      task: {
        message: `Error: NoSpace: ${TEXT}`,
        failure: { code: "NoSpace" },
        input: { uri: TEXT },
      },
      live: {
        last_failure: TEXT,
        stores: { fast: { state: "copying", attempt: 3, last_failure: `minio.internal ${TEXT}` } },
      },
      history: [{ source: "file:///srv/staging/x", stores: [{ store: "fast", url: TEXT }] }],
      path: "/srv/staging/x",
    };
    const plain = plainDocument(document);
    // The URI of a request is the caller's own, but for what is secret in it.
    expect(leaks({ ...plain, task: { ...plain.task, input: undefined } })).toEqual([]);
    expect(leaks(plain.task.input)).not.toContain("hunter22");
    expect(plain.live.stores.fast).toMatchObject({ state: "copying", attempt: 3 });
    expect(plain.history[0]?.stores[0]?.store).toBe("fast");
  });

  test("has the caller's own words", () => {
    const document = {
      input: { import_req: { message: "/etc", path: "/x" } },
      name: "/boot 1.1.1.1",
    };
    expect(plainDocument(document)).toEqual(document);
  });
});

describe("over HTTP", () => {
  const stack = new SharedStack();
  let client: ImageImportClient;

  beforeEach(async () => {
    client = await stack.connect();
  });

  test.each([
    ["Postgres fails", new ImportError("DatabaseUnavailable", TEXT), 503],
    ["a bug shows", new Error(`INSERT INTO ${TEXT}`), 500],
  ])(
    "when %s, the log has the cause under the id that the tenant gets",
    async (_, error, status) => {
      vi.spyOn(client.images, "list").mockRejectedValue(error);
      const api = await LocalApi.open({ stack, client });
      const answer = await new WireClient(api.url).send("GET", "/v2/images");
      expect(answer.status).toBe(status);
      expect(leaks(answer.body)).toEqual([]);
      const id = answer.headers.get("x-openstack-request-id") ?? "";
      expect(JSON.stringify(answer.body)).toContain(id);
      const line = api.lines.find((each) => each.includes(id) && each.includes("A request failed"));
      expect(line).toContain("10.1.2.3");
    },
  );
});
