import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { afterEach, describe, expect, test, vi } from "vitest";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { ApiProcess } from "./api-process.ts";
import { exchange, open, statusIn } from "./raw-socket.ts";
import { WireClient } from "./wire-client.ts";

// Whatever a client sends, the answer is a clear 4xx, and the server serves the next one.

const stack = new SharedStack();
const url = stack.file.api_url ?? "";
const api = new WireClient(url);
const HOST = "host: 127.0.0.1";
const PATCH = { "content-type": "application/openstack-images-v2.1-json-patch" };

afterEach(async () => {
  expect((await api.send("GET", "/healthcheck")).status).toBe(200);
});

describe("requests that a proxy and the server may read differently", () => {
  test.each([
    ["two lengths", "content-length: 4\r\ncontent-length: 5\r\n\r\nabcde"],
    ["two lengths in one", "content-length: 4, 5\r\n\r\nabcde"],
    ["a length with chunks", "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["an unknown encoding", "transfer-encoding: gzip\r\n\r\nabc"],
    ["chunked twice", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"],
    ["a length with a sign", "content-length: +4\r\n\r\nabcd"],
    ["a length in hex", "content-length: 0x4\r\n\r\nabcd"],
    ["a space before the colon", "content-length : 4\r\n\r\nabcd"],
    ["a folded header", "x-a: b\r\n c\r\ncontent-length: 0\r\n\r\n"],
    ["a bad chunk size", "transfer-encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"],
    ["a NUL in a header", "x-a: b\0c\r\ncontent-length: 0\r\n\r\n"],
  ])("%s", async (_what, rest) => {
    const { id } = await api.create();
    const head = `PUT /v2/images/${id}/file HTTP/1.1\r\n${HOST}\r\ncontent-type: application/octet-stream\r\n`;
    const answer = await exchange(url, [head + rest]);
    expect(statusIn(answer)).toBeGreaterThanOrEqual(400);
    expect(statusIn(answer)).toBeLessThan(500);
    // Some are found out only after the upload has begun, which then ends.
    await vi.waitFor(async () => {
      expect((await api.send("GET", `/v2/images/${id}`)).body.status).toBe("queued");
    }, PATIENCE);
  });

  test("text that is not HTTP", async () => {
    const answer = await exchange(url, ["\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 hello\r\n\r\n"]);
    expect(statusIn(answer)).toBe(400);
    expect(answer).toContain('"code":400');
  });
});

describe("too much", () => {
  test("a header of 1 MiB", async () => {
    const answer = await exchange(url, [
      `GET / HTTP/1.1\r\n${HOST}\r\nx-a: ${"x".repeat(1 << 20)}\r\n\r\n`,
    ]);
    expect(statusIn(answer)).toBe(431);
  });

  test("a path of 1 MiB", async () => {
    const answer = await exchange(url, [
      `GET /v2/images/${"x".repeat(1 << 20)} HTTP/1.1\r\n${HOST}\r\n\r\n`,
    ]);
    expect(statusIn(answer)).toBe(431);
  });

  test("a request id of 65 characters", async () => {
    const headers = { "x-openstack-request-id": "x".repeat(65) };
    expect((await api.send("GET", "/v2/images", { headers })).status).toBe(431);
  });

  test("a document above 1 MiB", async () => {
    const answer = await api.send("POST", "/v2/images", { json: { name: "x".repeat(2 << 20) } });
    expect([answer.status, answer.body.error.code]).toEqual([413, 413]);
  });

  test("10,000 properties", async () => {
    const properties = Array.from({ length: 10_000 }, (_, index) => [`p${String(index)}`, "x"]);
    const answer = await api.send("POST", "/v2/images", { json: Object.fromEntries(properties) });
    expect(answer.status).toBe(413);
  });

  test.each([
    ["GET", "/v2/images?%00=1", 400],
    ["GET", "/v1/images/%00", 404],
    [
      "GET",
      `/v1/images?filter=${encodeURIComponent('{"createdAfter":"-271821-04-20T00:00:00Z"}')}`,
      400,
    ],
    ["GET", `/v1/tasks?filter=${encodeURIComponent('{"owner":"a\\u0000"}')}`, 400],
  ])("%s %s, which Postgres cannot read", async (method, path, status) => {
    expect((await api.send(method, path)).status).toBe(status);
  });

  test.each(["\0", "\ud800"])("an import whose request has %j", async (text) => {
    const { id } = await api.create();
    const headers = { "content-type": "application/octet-stream" };
    await api.send("PUT", `/v2/images/${id}/stage`, { bytes: Buffer.alloc(10), headers });
    const json = { method: { name: "glance-direct" }, more: text };
    const { status } = await api.send("POST", `/v2/images/${id}/import`, { json });
    expect(status).toBe(400);
  });

  test("a string without an end", async () => {
    const { id } = await api.create();
    const bytes = Buffer.from(`"${'\\"'.repeat(500_000)}`);
    expect((await api.send("PATCH", `/v2/images/${id}`, { bytes, headers: PATCH })).status).toBe(
      400,
    );
  });

  test("a deep document", async () => {
    const { id } = await api.create();
    const deep = "[".repeat(100_000) + "]".repeat(100_000);
    for (const body of [deep, `[{"op":"add","path":"/x","value":${deep}}]`]) {
      const answer = await exchange(url, [
        `PATCH /v2/images/${id} HTTP/1.1\r\n${HOST}\r\ncontent-type: ${PATCH["content-type"]}\r\ncontent-length: ${String(body.length)}\r\n\r\n${body}`,
      ]);
      expect(statusIn(answer)).toBe(400);
    }
  });

  test("a long list of filters", async () => {
    const tags = Array.from({ length: 500 }, (_, index) => `tag=t${String(index)}`).join("&");
    const { status } = await api.send("GET", `/v2/images?${tags}`);
    expect([200, 400, 413]).toContain(status);
  });
});

describe("documents that are not what they seem", () => {
  test.each([
    ['{"__proto__": {"visibility": "public"}}', 400],
    ['{"constructor": {"prototype": {"x": 1}}}', 400],
    ['{"name": "a", "name"', 400],
    ["", 400],
    ["[]", 400],
    ["null", 400],
    ['"text"', 400],
    ['{"name": "a\\u0000b"}', 400],
    ['{"kind": "a\\u0000b"}', 400],
    ['{"tags": ["a\\u0000b"]}', 400],
    ['{"name": 1e999}', 400],
    ['{"min_disk": 99999999999}', 400],
    ['{"min_disk": -0.5}', 400],
    ['{"id": "../../etc/passwd"}', 400],
    ['{"owner": {"a": 1}}', 400],
  ])("%s", async (text, status) => {
    const answer = await exchange(url, [
      `POST /v2/images HTTP/1.1\r\n${HOST}\r\ncontent-type: application/json\r\ncontent-length: ${String(Buffer.byteLength(text))}\r\n\r\n${text}`,
    ]);
    expect(statusIn(answer)).toBe(status);
    expect(({} as Record<string, unknown>)["visibility"]).toBeUndefined();
  });

  test("text that is not UTF-8", async () => {
    const body = Buffer.concat([
      Buffer.from('{"name": "'),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('"}'),
    ]);
    const head = `POST /v2/images HTTP/1.1\r\n${HOST}\r\ncontent-type: application/json\r\ncontent-length: ${String(body.length)}\r\n\r\n`;
    expect([201, 400]).toContain(statusIn(await exchange(url, [head, body])));
  });

  test("names of every plane come back as they were sent", async () => {
    for (const name of ["grün ☃ 👩‍🚀", "a/b?c#d%e", "  spaces  ", "'\";--", "x".repeat(255)]) {
      const { id } = await api.create({ name, kind: name });
      expect((await api.send("GET", `/v2/images/${id}`)).body).toMatchObject({ name, kind: name });
      const found = await api.send(
        "GET",
        `/v2/images?name=eq:${encodeURIComponent(JSON.stringify(name))}`,
      );
      expect(found.body.images.map(({ id: each }) => each)).toContain(id);
    }
  });
});

describe("paths", () => {
  test.each([
    "/v2/images/..%2f..%2fetc%2fpasswd",
    "/v2/images/%00",
    "/v2/images/%zz",
    "/v2/images/..",
    "/v2/images/.%2e/images/x/file",
    "/v2/images/6d2f0000-0000-4000-8000-000000000001'--",
    "/v2/images/%F0%9F%92%A3/file",
    "/v2/stores/..%2f/6d2f0000-0000-4000-8000-000000000001",
    `/v2/images/${"a".repeat(5000)}`,
  ])("%s", async (path) => {
    const answer = await exchange(url, [`GET ${path} HTTP/1.1\r\n${HOST}\r\n\r\n`]);
    expect(statusIn(answer)).toBeGreaterThanOrEqual(300);
    expect(statusIn(answer)).toBeLessThan(500);
  });
});

describe("bodies", () => {
  test("that break off leave the image queued, and nothing staged", async () => {
    for (const framing of ["content-length: 1000000", "transfer-encoding: chunked"]) {
      const { id } = await api.create();
      const socket = await open(url);
      const start = framing.startsWith("c") ? "abc" : "3\r\nabc\r\n";
      socket.write(
        `PUT /v2/images/${id}/file HTTP/1.1\r\n${HOST}\r\ncontent-type: application/octet-stream\r\n${framing}\r\n\r\n${start}`,
      );
      await vi.waitUntil(
        async () => (await api.send("GET", `/v2/images/${id}`)).body.status === "saving",
        PATIENCE,
      );
      socket.destroy();
      await vi.waitUntil(
        async () => (await api.send("GET", `/v2/images/${id}`)).body.status === "queued",
        PATIENCE,
      );
      expect(await stack.traces(id)).toMatchObject({ staging: [], leases: [] });
    }
  });

  test("that are refused are answered before they are read", async () => {
    const { id } = await api.create({ disk_format: null });
    const socket = await open(url);
    socket.write(
      `PUT /v2/images/${id}/file HTTP/1.1\r\n${HOST}\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000000000\r\n\r\nabc`,
    );
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(statusIn(answer.toString())).toBe(400);
    socket.destroy();
  });

  test("that wait to be asked for are not asked for if they are refused", async () => {
    const { id } = await api.create();
    const put = (image: string): string =>
      `PUT /v2/images/${image}/file HTTP/1.1\r\n${HOST}\r\ncontent-type: application/octet-stream\r\ncontent-length: 4096\r\nexpect: 100-continue\r\n\r\n`;
    expect(statusIn(await exchange(url, [put("6d2f0000-0000-4000-8000-000000000001")]))).toBe(404);
    const socket = await open(url);
    socket.write(put(id));
    const [asked] = (await once(socket, "data")) as [Buffer];
    expect(asked.toString()).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    socket.write(randomBytes(4096));
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(statusIn(answer.toString())).toBe(204);
    socket.destroy();
  });

  test("where none belongs are refused", async () => {
    const { id } = await api.create();
    const answer = await exchange(url, [
      `GET /v2/images/${id} HTTP/1.1\r\n${HOST}\r\ncontent-length: 3\r\n\r\nabc`,
    ]);
    expect(statusIn(answer)).toBe(400);
    const harmless = await exchange(url, [
      `GET /v2/images/${id} HTTP/1.1\r\n${HOST}\r\ncontent-type: application/octet-stream\r\n\r\n`,
    ]);
    expect(statusIn(harmless)).toBe(200);
  });
});

describe("connections", () => {
  test("with several requests at once get the answers in order", async () => {
    const { id } = await api.create();
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\n${HOST}\r\n\r\n`;
    const last = `GET /healthcheck HTTP/1.1\r\n${HOST}\r\nconnection: close\r\n\r\n`;
    const answer = await exchange(url, [get(`/v2/images/${id}`) + get("/versions") + last], {
      endsAfterAnswer: false,
    });
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toHaveLength(3);
    expect(answer.indexOf(id)).toBeLessThan(answer.indexOf('"versions"'));
  });

  test("that are half closed get their answer", async () => {
    const socket = await open(url);
    socket.end(`GET /healthcheck HTTP/1.1\r\n${HOST}\r\n\r\n`);
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(statusIn(answer.toString())).toBe(200);
  });

  test("that send nothing are ended, and others are served meanwhile", async () => {
    const other = await ApiProcess.start(stack, { idle_timeout: "3s" });
    const sockets = await Promise.all(Array.from({ length: 1_000 }, () => open(other.url)));
    for (const socket of sockets) socket.write("GET / HTTP/1.1\r\nx-a: b\r\n");
    expect((await new WireClient(other.url).send("GET", "/healthcheck")).status).toBe(200);
    await Promise.all(
      sockets.filter(({ destroyed }) => !destroyed).map((socket) => once(socket, "close")),
    );
  });

  test("that stop in the middle of an upload get 408, and leave nothing", async () => {
    const other = await ApiProcess.start(stack, { idle_timeout: "3s" });
    const { id } = await api.create();
    const answer = await exchange(other.url, [
      `PUT /v2/images/${id}/file HTTP/1.1\r\n${HOST}\r\ncontent-type: application/octet-stream\r\ncontent-length: 4096\r\n\r\nabc`,
    ]);
    expect(statusIn(answer)).toBe(408);
    expect((await api.send("GET", `/v2/images/${id}`)).body.status).toBe("queued");
    expect(await stack.traces(id)).toMatchObject({ staging: [], leases: [] });
  });
});

test("uploads beside each other are all complete", async () => {
  const uploads = Array.from({ length: 24 }, async () => {
    const bytes = randomBytes(300_000);
    const id = await api.active(bytes);
    const { bytes: read } = await api.send("GET", `/v2/images/${id}/file`);
    return read.equals(bytes);
  });
  expect(new Set(await Promise.all(uploads))).toEqual(new Set([true]));
});
