import { createHash, randomBytes, randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MIB } from "../support/mib.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { ApiProcess } from "./api-process.ts";
import { exchange } from "./raw-socket.ts";
import { BYTES, changeLease, metadata, TUS, TusClient } from "./tus-client.ts";
import { WireClient, type WireAnswer } from "./wire-client.ts";

// Each answer about an upload names the version of the protocol, whatever refuses the request.

const stack = new SharedStack();
const url = stack.file.api_url ?? "";
const api = new TusClient(url);
const ANY = `/uploads/${randomUUID()}.01234567`;

function expectTus(answer: WireAnswer, status: number): void {
  expect([answer.status, answer.headers.get("tus-resumable")]).toEqual([status, "1.0.0"]);
  expect(answer.headers.get("cache-control")).toBe("no-store");
}

describe("an answer names the version of tus", () => {
  test.each([
    ["a beginning without a length", 400, "POST", "/uploads", TUS],
    ["an unknown upload", 404, "HEAD", ANY, TUS],
    ["an address that is none", 404, "PATCH", "/uploads/x", { ...BYTES, "upload-offset": "0" }],
    ["a path below an upload", 404, "GET", `${ANY}/more`, TUS],
    ["a path that cannot be decoded", 400, "HEAD", "/uploads/%zz", TUS],
    ["a method that it does not have", 405, "PUT", "/uploads", TUS],
    ["another version", 412, "HEAD", ANY, { "tus-resumable": "0.9" }],
    ["no version", 412, "DELETE", ANY, {}],
    ["another type", 415, "PATCH", ANY, { ...BYTES, "content-type": "application/x-tar" }],
  ])("%s: %i", async (_what, status, method, path, headers: Record<string, string>) => {
    expectTus(await api.send(method, path, { headers }), status);
  });

  test("409, 410, 413, 460 and 204: bytes that do not fit", async () => {
    const { id, path } = await api.begin(100);
    const wrong = { "upload-checksum": `sha1 ${"A".repeat(27)}=` };
    expectTus(await api.patch(path, 10, randomBytes(1)), 409);
    expectTus(await api.patch(path, 0, randomBytes(101)), 413);
    expectTus(await api.patch(path, 0, randomBytes(10), wrong), 460);
    expectTus(await api.patch(path, 0, randomBytes(10)), 204);
    const again = { ...TUS, "upload-length": "1", "upload-metadata": metadata({ image_id: id }) };
    expectTus(await api.send("POST", "/uploads", { headers: again }), 409);
    await changeLease(stack, id, "resumable_until", 1);
    expectTus(await api.head(path), 410);
  });

  test("413: more than a body may have that is read as a document", async () => {
    const headers = { ...TUS, "content-type": "text/plain" };
    expectTus(await api.send("POST", "/uploads", { bytes: randomBytes(2 * MIB), headers }), 413);
  });

  test("401 and 403: who is not known, and who may not", async () => {
    const digest = createHash("sha256").update("reader").digest("hex");
    const reader = { user: "reader", project: "theirs", roles: ["reader"] };
    const file = join(makeTemporaryDirectory(), "tokens.yaml");
    writeFileSync(file, JSON.stringify({ tokens: [{ digest: `sha256:${digest}`, ...reader }] }));
    const own = await ApiProcess.start(stack, { identity: "tokens", tokens_file: file });
    const { id } = await api.create({ visibility: "community" });
    const headers = { ...TUS, "upload-length": "1", "upload-metadata": metadata({ image_id: id }) };
    const [known, unknown] = ["reader", "unknown"].map(
      (token) => new WireClient(own.url, { "x-auth-token": token }),
    );
    for (const [client, status] of [
      [known, 403],
      [unknown, 401],
      [new WireClient(own.url), 401],
    ] as const) {
      const answer = await client?.send("POST", "/uploads", { headers });
      expect([answer?.status, answer?.headers.get("tus-resumable")]).toEqual([status, "1.0.0"]);
    }
    expectTus(await new WireClient(own.url).send("HEAD", ANY, { headers: TUS }), 401);
  });

  test("a body with a question without one: 400", async () => {
    const answer = await exchange(url, [
      "OPTIONS /uploads HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1\r\n\r\nx",
    ]);
    expect(answer).toMatch(/^HTTP\/1\.1 400[^]*\r\ntus-resumable: 1\.0\.0\r\n/i);
  });

  test("other answers do not", async () => {
    for (const path of ["/v2/images", "/uploadsx", "/"]) {
      const { headers } = await api.send("GET", path);
      expect(headers.get("tus-resumable")).toBeNull();
    }
  });
});
