import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { answerTo } from "../../src/http/failure-answer.ts";
import { Keystone } from "../../src/http/keystone.ts";
import { failureOf } from "../support/failure-of.ts";
import { PATIENCE } from "../support/patience.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { KeystoneDouble } from "./keystone-double.ts";

let server: KeystoneDouble;
let keystone: Keystone;

beforeEach(async () => {
  server = await KeystoneDouble.open();
  keystone = await Keystone.open({ url: server.url, caFile: undefined, cacheMs: 300_000 });
});

afterEach(async () => {
  vi.useRealTimers();
  await keystone.close();
  await server[Symbol.asyncDispose]();
});

test("a file of authorities that cannot be read is refused with the reason", async () => {
  const caFile = join(makeTemporaryDirectory(), "none.pem");

  const failure = await failureOf(Keystone.open({ url: server.url, caFile, cacheMs: 0 }));

  expect(failure).toMatchObject({
    code: "BadConfiguration",
    message: `Cannot read the file "${caFile}" of \`api.keystone.ca_file\`: ENOENT: no such file or directory, open '${caFile}'`,
  });
});

async function identified(headers: Record<string, string>, method = "GET", path = "/v2/images") {
  const { user, project, roles } = await keystone.identify({ headers, method, path });
  return { user, project, roles: [...roles] };
}

async function statusOf(headers: Record<string, string>, method = "GET", path = "/v2/images") {
  try {
    await keystone.identify({ headers, method, path });
    return 200;
  } catch (error) {
    return answerTo(error, { id: "req-1", caller: undefined }).status;
  }
}

test("a token validates itself", async () => {
  server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member", "reader"] });
  expect(await identified({ "x-auth-token": " mine " })).toEqual({
    user: "alice",
    project: "ours",
    roles: ["member", "reader"],
  });
  expect(server.asked).toEqual([{ subject: "mine", by: "mine", query: "?nocatalog" }]);
});

test("headers that name an identity are not believed", async () => {
  server.tokens.set("mine", { user: "alice", project: "ours", roles: ["reader"] });
  const headers = { "x-auth-token": "mine", "x-roles": "admin", "x-project-id": "theirs" };
  expect(await identified(headers)).toMatchObject({ project: "ours", roles: ["reader"] });
});

test("without a token, and with one that Keystone refuses, the answer is 401 with a challenge", async () => {
  expect(await statusOf({})).toBe(401);
  expect(await statusOf({ "x-auth-token": "unknown" })).toBe(401);
  expect(keystone.challenge).toBe(`Keystone uri="${server.url}"`);
});

describe("the catalogue", () => {
  const west = { region: "West", serviceInterface: "public" };
  const headers = { "x-auth-token": "mine" };

  beforeEach(() => {
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"] });
    server.endpoints.push(
      { interface: "internal", region: "West", url: "http://inside" },
      { interface: "public", region: "East", url: "http://east" },
      { interface: "public", region: "West", url: "http://west" },
    );
  });

  test("names the image service of a region and an interface", async () => {
    expect(await keystone.imageEndpoint(west, headers)).toBe("http://west");
    const inside = { ...west, serviceInterface: "internal" };
    expect(await keystone.imageEndpoint(inside, headers)).toBe("http://inside");
  });

  test("has no other region and no other interface", async () => {
    for (const place of [
      { ...west, region: "North" },
      { ...west, serviceInterface: "admin" },
    ]) {
      expect(await keystone.imageEndpoint(place, headers)).toBeUndefined();
    }
  });

  test("that cannot be read now is 503", async () => {
    server.brokenStatus = 500;
    const answer = await keystone.imageEndpoint(west, headers).catch((error: unknown) => error);
    expect(answerTo(answer, { id: "req-1", caller: undefined }).status).toBe(503);
  });
});

describe("the cache", () => {
  test("asks once for many requests at once, and for those that follow", async () => {
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"] });
    await Promise.all(Array.from({ length: 20 }, () => identified({ "x-auth-token": "mine" })));
    await identified({ "x-auth-token": "mine" });
    expect(server.asked).toHaveLength(1);
  });

  test("asks once for all that wait for the same answer, also if it is a refusal", async () => {
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"] });
    let open = (): void => undefined;
    server.gate = new Promise((resolve) => {
      open = resolve;
    });
    const waiting = ["mine", "bad", "mine", "bad", "mine"].map((token) =>
      statusOf({ "x-auth-token": token }),
    );
    await vi.waitUntil(() => server.asked.length >= 2, PATIENCE);
    open();
    expect(await Promise.all(waiting)).toEqual([200, 401, 200, 401, 200]);
    expect(server.asked.map(({ subject }) => subject)).toEqual(["mine", "bad"]);
  });

  test("keeps valid tokens through a flood of invalid ones, and few of those", async () => {
    const small = await Keystone.open(
      { url: server.url, caFile: undefined, cacheMs: 300_000 },
      { accepted: 2, refused: 3 },
    );
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"] });
    const ask = (token: string) =>
      small
        .identify({ headers: { "x-auth-token": token }, method: "GET", path: "/v2/images" })
        .then(() => 200)
        .catch(() => 401);
    expect(await ask("mine")).toBe(200);
    for (let n = 0; n < 20; n += 1) expect(await ask(`bad-${String(n)}`)).toBe(401);
    const asked = server.asked.length;
    expect(await ask("mine")).toBe(200);
    expect(await ask("bad-19")).toBe(401);
    expect(server.asked).toHaveLength(asked);
    expect(await ask("bad-0")).toBe(401);
    expect(server.asked).toHaveLength(asked + 1);
    await small.close();
  });

  test("drops the valid token first that was not used for longest", async () => {
    const small = await Keystone.open(
      { url: server.url, caFile: undefined, cacheMs: 300_000 },
      { accepted: 2, refused: 2 },
    );
    for (const name of ["a", "b", "c"]) {
      server.tokens.set(name, { user: name, project: "ours", roles: ["member"] });
    }
    for (const token of ["a", "b", "a", "c", "a", "b"]) {
      await small.identify({ headers: { "x-auth-token": token }, method: "GET", path: "/" });
    }
    expect(server.asked.map(({ subject }) => subject)).toEqual(["a", "b", "c", "b"]);
    await small.close();
  });

  test("never outlives the token", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    const expiresAt = new Date(Date.now() + 60_000).toISOString();
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"], expiresAt });
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(200);
    vi.setSystemTime(Date.now() + 61_000);
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(401);
  });

  test("ends after its time: a revoked token is refused then", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"] });
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(200);
    server.tokens.delete("mine");
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(200);
    vi.advanceTimersByTime(301_000);
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(401);
  });

  test("keeps a refusal for a moment only", async () => {
    vi.useFakeTimers({ toFake: ["performance"] });
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(401);
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(401);
    expect(server.asked).toHaveLength(1);
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"] });
    vi.advanceTimersByTime(11_000);
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(200);
  });
});

test("a Keystone that fails makes the request fail with 503, and is asked again", async () => {
  server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"] });
  server.brokenStatus = 500;
  expect(await statusOf({ "x-auth-token": "mine" })).toBe(503);
  server.brokenStatus = undefined;
  expect(await statusOf({ "x-auth-token": "mine" })).toBe(200);
});

test("an unreachable Keystone makes the request fail with 503", async () => {
  const away = await Keystone.open({
    url: "http://127.0.0.1:1/v3",
    caFile: undefined,
    cacheMs: 300_000,
  });
  await expect(
    away.identify({ headers: { "x-auth-token": "mine" }, method: "GET", path: "/" }),
  ).rejects.toMatchObject({ status: 503 });
  await away.close();
});

describe("the token of a service", () => {
  const expired = {
    user: "alice",
    project: "ours",
    roles: ["member"],
    expiresAt: "2020-01-01T00:00:00Z",
  };

  test("lets the token of its user expire", async () => {
    server.tokens.set("mine", expired);
    server.tokens.set("nova", { user: "nova", project: "service", roles: ["service"] });
    expect(await statusOf({ "x-auth-token": "mine" })).toBe(401);
    expect(await identified({ "x-auth-token": "mine", "x-service-token": "nova" })).toMatchObject({
      user: "alice",
      roles: ["member", "reader", "service"],
    });
  });

  test("changes nothing without the role", async () => {
    server.tokens.set("mine", expired);
    server.tokens.set("nova", { user: "nova", project: "service", roles: ["member"] });
    expect(await statusOf({ "x-auth-token": "mine", "x-service-token": "nova" })).toBe(401);
  });
});

describe("access rules of an application credential", () => {
  const rule = { service: "image", method: "GET", path: "/v2/images" };

  test.each([
    [[rule], "GET", "/v2/images", 200],
    [[rule], "POST", "/v2/images", 401],
    [[rule], "GET", "/v2/images/1", 401],
    [[{ ...rule, path: "/v2/images/*" }], "GET", "/v2/images/1", 200],
    [[{ ...rule, path: "/v2/images/*" }], "GET", "/v2/images/1/file", 401],
    [[{ ...rule, path: "/v2/images/**" }], "GET", "/v2/images/1/file", 200],
    [[{ ...rule, path: "/v2/images/{id}/file" }], "GET", "/v2/images/1/file", 200],
    [[{ ...rule, path: "/v2/images/{id}" }], "GET", "/v2/images/", 401],
    [[{ ...rule, service: "compute" }], "GET", "/v2/images", 401],
    [[], "GET", "/v2/images", 401],
  ] as const)("%j and %s %s", async (accessRules, method, path, status) => {
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"], accessRules });
    expect(await statusOf({ "x-auth-token": "mine" }, method, path)).toBe(status);
  });

  test("cost no more than their length, whatever they are", async () => {
    const path = `/${"**a".repeat(40)}b`;
    const accessRules = [{ ...rule, path }];
    server.tokens.set("mine", { user: "alice", project: "ours", roles: ["member"], accessRules });
    expect(await statusOf({ "x-auth-token": "mine" }, "GET", `/${"a".repeat(2000)}`)).toBe(401);
  });
});
