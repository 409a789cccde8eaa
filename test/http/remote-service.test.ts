import { createHash, randomUUID } from "node:crypto";
import { appendFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { MIB } from "../support/mib.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { ScriptedApi, type Asked, type Told } from "./scripted-api.ts";

const id = randomUUID();

describe("an address at which another server answers", () => {
  it.each([
    ["https://cloud.example/glance/v1/images/x", "https://cloud.example/glance"],
    ["/login?next=x", "http://127.0.0.1"],
    ["http://[", undefined],
    [undefined, undefined],
  ])("is refused at once after a redirect to %s", async (location, target) => {
    const api = await ScriptedApi.open(() => ({
      status: 301,
      headers: location === undefined ? {} : { location },
    }));

    const failure = await failureOf(api.service.images.show("x"));

    expect(failure).toMatchObject({ code: "BadConfiguration" });
    expect(failure.message).toContain(
      `it answered with a redirect${target === undefined ? "" : ` to ${target}`}`,
    );
    expect(api.lines).toHaveLength(1);
  });

  it.each(["<html>welcome</html>", "", '"text"', "null"])(
    "is refused at once after %j",
    async (body) => {
      const api = await ScriptedApi.open(() => ({ body }));

      const failure = await failureOf(api.service.images.show(id));

      expect(failure).toMatchObject({
        code: "BadConfiguration",
        message: expect.stringContaining("it did not answer with JSON (status 200)") as unknown,
      });
      expect(api.lines).toHaveLength(1);
    },
  );

  it.each(["<html>none</html>", '{"error":null}', '{"error":{"message":{}}}', "[]"])(
    "is doubted when it finds nothing, and says %j",
    async (body) => {
      const api = await ScriptedApi.open(() => ({ status: 404, body }));

      const failure = await failureOf(api.service.images.show(id));

      expect(failure).toMatchObject({
        code: "BadConfiguration",
        message: `The API at ${api.url} answered with status 404`,
        hint: expect.stringContaining("Is this the address of an Image Import API?") as unknown,
      });
    },
  );
});

describe("cancel() that waits", () => {
  function runOf(event: string): (asked: Asked) => Told {
    return ({ line }) => {
      if (line.includes("/events")) return { body: event };
      return { body: line.startsWith("GET") ? { run_id: "run" } : { received: true } };
    };
  }

  it("fails for an import that became active", async () => {
    const api = await ScriptedApi.open(runOf('event: outcome\ndata: {"status":"active"}\n\n'));

    expect(await failureOf(api.service.imports.cancel(id, { wait: true }))).toMatchObject({
      code: "ImportEnded",
      message: `Cannot cancel the import of image "${id}": it has published its copies already`,
    });
  });

  it("ends with an import that was cancelled", async () => {
    const failure = { error: { failure: "ImportCancelled", message: "It was cancelled" } };
    const api = await ScriptedApi.open(
      runOf(`event: failure\ndata: ${JSON.stringify(failure)}\n\n`),
    );

    expect(await api.service.imports.cancel(id, { wait: true })).toBe(true);
  });
});

describe("a final answer", () => {
  const failures = [
    [
      { code: 500, message: "It broke", failure: "OtherError", hint: "Look at it." },
      { code: "OtherError", message: "It broke", hint: "Look at it." },
    ],
    [
      { code: 500, message: "The service has a fault." },
      { code: "InternalError", message: "The service has a fault." },
    ],
    [
      { code: 404, message: "No such image" },
      { code: "ImageNotFound", message: "No such image" },
    ],
  ] as const;

  it.each(failures)("ends the wait for an import: %j", async (error, expected) => {
    const api = await ScriptedApi.open(({ line }) =>
      api.lines.length > 1 ? { status: 400 } : event(line, error),
    );

    await expect(api.service.imports.wait(id, "run")).rejects.toMatchObject(expected);
  });

  it.each(failures)("is not asked for again: %j", async (error, expected) => {
    const { code: status } = error;
    const api = await ScriptedApi.open(() =>
      api.lines.length > 1 ? { status: 400 } : { status, body: { error } },
    );

    await expect(api.service.images.show(id)).rejects.toMatchObject(expected);
  });

  it("is not that of a proxy whose server starts again", async () => {
    const api = await ScriptedApi.open(() =>
      api.lines.length > 1 ? { body: { id } } : { status: 500, body: "<html>sorry</html>" },
    );

    expect(await api.service.images.show(id)).toEqual({ id });
  });

  function event(line: string, error: object): Told {
    expect(line).toContain("/events");
    return { body: `event: failure\ndata: ${JSON.stringify({ error })}\n\n` };
  }
});

describe("start()", () => {
  it("asks for no longer wait than the API allows", async () => {
    let asked: unknown;
    const api = await ScriptedApi.open(({ body }) => {
      asked = JSON.parse(body.toString());
      return { status: 202, body: { accepted: true } };
    });

    await api.service.imports.start(id, { acceptTimeoutMs: 900_000 });

    expect(asked).toMatchObject({ accept_timeout_ms: 600_000 });
  });
});

describe("start() without an answer", () => {
  const unknown = expect.stringMatching(/^It is not known whether the import /) as string;

  it("names the API as what is unreachable", async () => {
    const api = await ScriptedApi.open(() => Promise.reject(new Error("The connection breaks")));

    expect(await failureOf(api.service.imports.start(id))).toMatchObject({
      code: "ApiUnavailable",
      message: unknown,
    });
  });

  it("says that it was interrupted", async () => {
    const leaving = new AbortController();
    const api = await ScriptedApi.open(() => {
      leaving.abort();
      return { status: 202, body: { accepted: true } };
    });

    expect(
      await failureOf(api.service.imports.start(id, { signal: leaving.signal })),
    ).toMatchObject({ code: "Interrupted", message: unknown });
  });
});

describe("create()", () => {
  it.each(["visibility", "tags", "id", "protected"])(
    "refuses a property with the name of the attribute %s",
    async (name) => {
      const api = await ScriptedApi.open(() => ({ body: {} }));

      const created = api.service.images.create({ properties: { [name]: "public" } });

      expect(await failureOf(created)).toMatchObject({ code: "BadRequest" });
      expect(api.lines).toEqual([]);
    },
  );
});

/** An API that takes uploads of one image. */
async function openUploads(onBytes: () => void = () => undefined): Promise<ScriptedApi> {
  let length = "0";
  let got = Buffer.alloc(0);
  const digest = (algo: string): string => createHash(algo).update(got).digest("hex");
  return ScriptedApi.open(({ line, headers, body }) => {
    if (line === "POST /uploads") {
      length = String(headers["upload-length"]);
      return { status: 201, headers: { location: "/uploads/1" } };
    }
    if (line.startsWith("HEAD")) {
      const metadata = `image_id ${Buffer.from(id).toString("base64")}`;
      const state = { "upload-offset": String(got.length), "upload-length": length };
      return { headers: { ...state, "upload-metadata": metadata } };
    }
    if (line.startsWith("PATCH")) {
      got = Buffer.concat([got, body]);
      onBytes();
      return { status: 204 };
    }
    if (line.endsWith("/stage")) {
      const digests = { checksum: digest("md5"), os_hash_value: digest("sha512") };
      return { body: { ...digests, os_hash_algo: "sha512", size: got.length } };
    }
    return { body: { status: "uploading" } };
  });
}

describe("stage()", () => {
  function fileOf(bytes: number): string {
    const path = join(makeTemporaryDirectory(), "disk.raw");
    writeFileSync(path, Buffer.alloc(bytes, 1));
    return path;
  }

  it("sends a file", async () => {
    const api = await openUploads();

    expect(await api.service.files.stage(id, fileOf(3 * MIB))).toMatchObject({ size: 3 * MIB });
  });

  it("looks at the file before it removes the upload that is there", async () => {
    const api = await openUploads();
    const typo = join(makeTemporaryDirectory(), "typo.raw");

    expect(await failureOf(api.service.files.stage(id, typo, { replace: true }))).toMatchObject({
      code: "FileNotFound",
    });
    expect(api.lines).toEqual([]);
  });

  it("removes the upload that is there before it sends another file", async () => {
    const api = await openUploads();

    await api.service.files.stage(id, fileOf(1), { replace: true });

    expect(api.lines.slice(0, 3)).toEqual([
      `GET /v1/images/${id}`,
      `DELETE /v1/images/${id}/stage`,
      "POST /uploads",
    ]);
  });

  it("refuses a file that grows while it is sent", async () => {
    const path = fileOf(MIB);
    const api = await openUploads(() => {
      appendFileSync(path, "more");
    });

    expect(await failureOf(api.service.files.stage(id, path))).toMatchObject({
      code: "UnusableFile",
      message: `Cannot stage "${path}": it changed while it was sent`,
    });
  });

  it("refuses a file that shrinks before it is sent, and names it", async () => {
    const path = fileOf(2 * MIB);
    const api = await ScriptedApi.open(({ line, headers }) => {
      truncateSync(path, MIB);
      if (line.startsWith("POST")) return { status: 201, headers: { location: "/uploads/1" } };
      const metadata = `image_id ${Buffer.from(id).toString("base64")}`;
      const state = { "upload-offset": "0", "upload-length": String(2 * MIB) };
      return { headers: { ...headers, ...state, "upload-metadata": metadata } };
    });

    expect(await failureOf(api.service.files.stage(id, path))).toMatchObject({
      code: "UnusableFile",
      message: `Cannot stage "${path}": it became shorter while it was sent`,
    });
  });
});
