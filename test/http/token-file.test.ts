import { createHash } from "node:crypto";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { answerTo } from "../../src/http/failure-answer.ts";
import { TokenFile } from "../../src/http/token-file.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const report = vi.fn();

function entry(token: string, more = ""): string {
  const digest = createHash("sha256").update(token).digest("hex");
  return `  - {digest: "sha256:${digest}", user: alice, project: ours, roles: [member]${more}}\n`;
}

async function fileOf(text: string): Promise<string> {
  const path = join(makeTemporaryDirectory(), "tokens.yaml");
  await writeFile(path, text);
  return path;
}

async function statusOf(tokens: TokenFile, headers: Record<string, string>): Promise<number> {
  try {
    await tokens.identify({ headers, method: "GET", path: "/" });
    return 200;
  } catch (error) {
    return answerTo(error, { id: "req-1", caller: undefined }).status;
  }
}

function basic(user: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}` };
}

test("a token comes in a header, as bearer, or as the password of its user", async () => {
  const tokens = await TokenFile.open(await fileOf(`tokens:\n${entry("s3cret:x")}`), report);
  expect(await statusOf(tokens, { "x-auth-token": "s3cret:x" })).toBe(200);
  expect(await statusOf(tokens, { authorization: "Bearer s3cret:x" })).toBe(200);
  expect(await statusOf(tokens, basic("alice", "s3cret:x"))).toBe(200);
  expect(await statusOf(tokens, basic("bob", "s3cret:x"))).toBe(401);
  expect(await statusOf(tokens, basic("alice", "other"))).toBe(401);
  expect(await statusOf(tokens, { "x-auth-token": "other" })).toBe(401);
  expect(await statusOf(tokens, { authorization: "Basic !" })).toBe(401);
  expect(await statusOf(tokens, {})).toBe(401);
});

test("a token can expire", async () => {
  const past = ', expires: "2020-01-01T00:00:00Z"';
  const future = ', expires: "2220-01-01T00:00:00Z"';
  const tokens = await TokenFile.open(
    await fileOf(`tokens:\n${entry("old", past)}${entry("new", future)}`),
    report,
  );
  expect(await statusOf(tokens, { "x-auth-token": "old" })).toBe(401);
  expect(await statusOf(tokens, { "x-auth-token": "new" })).toBe(200);
});

test("a change of the file counts, and a mistake in it changes nothing", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const path = await fileOf(`tokens:\n${entry("first")}`);
  const tokens = await TokenFile.open(path, report);
  const replace = async (text: string): Promise<void> => {
    await writeFile(`${path}.new`, text);
    await rename(`${path}.new`, path);
    vi.advanceTimersByTime(1_001);
  };
  await replace(`tokens:\n${entry("second")}`);
  expect(await statusOf(tokens, { "x-auth-token": "first" })).toBe(401);
  expect(await statusOf(tokens, { "x-auth-token": "second" })).toBe(200);
  await replace("tokens: [");
  expect(await statusOf(tokens, { "x-auth-token": "second" })).toBe(200);
  expect(report).toHaveBeenLastCalledWith(expect.stringContaining(path));
  await replace(`tokens:\n${entry("third")}`);
  expect(await statusOf(tokens, { "x-auth-token": "third" })).toBe(200);
});

test.each([
  [
    "tokens:\n  - {digest: abc, user: a, project: b, roles: [member]}",
    "must be sha256: and 64 hex digits",
  ],
  ["tokens:\n  - {user: a}", "digest"],
  ["token: []", "token"],
  ["tokens: [", "Flow sequence"],
])("the file %j is refused by its name", async (text, reason) => {
  const path = await fileOf(text);
  await expect(TokenFile.open(path, report)).rejects.toThrow(path);
  await expect(TokenFile.open(path, report)).rejects.toThrow(reason);
});

test("a file that is not there is refused by its name", async () => {
  await expect(TokenFile.open("/nowhere/tokens.yaml", report)).rejects.toMatchObject({
    code: "BadConfiguration",
    message: expect.stringContaining("/nowhere/tokens.yaml") as unknown,
  });
});
