import { randomBytes, randomUUID } from "node:crypto";
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isSealed, SealingKeys } from "../../src/sources/sealing-keys.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const URI = "https://example.org/disk.img?X-Amz-Signature=s3cret";
const IMAGE = randomUUID();

async function keyFile(text: string, mode = 0o600): Promise<string> {
  const path = join(makeTemporaryDirectory(), "secrets.key");
  await writeFile(path, text);
  await chmod(path, mode);
  return path;
}

function line(key: Buffer): string {
  return `${key.toString("base64")}\n`;
}

describe("seal()", () => {
  it("encrypts the URI, differently each time, and open() returns it", () => {
    const keys = new SealingKeys([randomBytes(32)]);

    const sealed = keys.seal(IMAGE, URI);

    expect(sealed).toMatch(/^sealed:v1:[0-9a-f]{8}:[A-Za-z0-9_-]+$/);
    expect(isSealed(sealed)).toBe(true);
    expect(Buffer.from(sealed.split(":")[3] ?? "", "base64url").toString()).not.toContain("s3cret");
    expect(keys.seal(IMAGE, URI)).not.toBe(sealed);
    expect(keys.open(IMAGE, sealed)).toBe(URI);
  });

  it("is refused without a key", async () => {
    const failure = await failureOf(
      Promise.resolve().then(() => new SealingKeys().seal(IMAGE, URI)),
    );

    expect(failure.code).toBe("BadConfiguration");
    expect(failure.message).not.toContain("s3cret");
  });
});

describe("open()", () => {
  it("returns a URI that is not sealed as it is", () => {
    expect(new SealingKeys().open(IMAGE, "https://example.org/")).toBe("https://example.org/");
  });

  it("refuses a URI that was sealed for another image, or was changed", async () => {
    const keys = new SealingKeys([randomBytes(32)]);
    const sealed = keys.seal(IMAGE, URI);
    const other = sealed.at(-9) === "A" ? "B" : "A";
    const changed = [
      sealed.slice(0, -5),
      `${sealed.slice(0, -9)}${other}${sealed.slice(-8)}`,
      "sealed:v1:",
      "sealed:v1:00000000:AA",
    ];

    expect(
      await failureOf(Promise.resolve().then(() => keys.open(randomUUID(), sealed))),
    ).toMatchObject({
      code: "BadRequest",
    });
    for (const each of changed) {
      expect(await failureOf(Promise.resolve().then(() => keys.open(IMAGE, each)))).toMatchObject({
        code: "BadRequest",
      });
    }
  });

  it("names the missing key", async () => {
    const sealed = new SealingKeys([randomBytes(32)]).seal(IMAGE, URI);
    const [, , id = ""] = sealed.split(":");

    const failure = await failureOf(
      Promise.resolve().then(() => new SealingKeys([randomBytes(32)]).open(IMAGE, sealed)),
    );

    expect([failure.code, failure.message.includes(id)]).toEqual(["BadConfiguration", true]);
  });
});

describe("read()", () => {
  it("seals with the first key and opens with all, so that keys can be changed", async () => {
    const [older, newer] = [randomBytes(32), randomBytes(32)];
    const before = await SealingKeys.read(await keyFile(line(older)));
    const after = await SealingKeys.read(await keyFile(line(newer) + line(older)));

    expect(after.open(IMAGE, before.seal(IMAGE, URI))).toBe(URI);
    expect(
      await failureOf(Promise.resolve().then(() => before.open(IMAGE, after.seal(IMAGE, URI)))),
    ).toMatchObject({
      code: "BadConfiguration",
    });
  });

  it.each([
    ["others may read", line(randomBytes(32)), 0o604],
    ["its group may write", line(randomBytes(32)), 0o620],
    ["is empty", "", 0o600],
    ["holds a short key", line(randomBytes(16)), 0o600],
    ["holds no key", "hello\n", 0o600],
  ])("refuses a file that %s", async (_, text, mode) => {
    const path = await keyFile(text, mode);

    const failure = await failureOf(Promise.resolve().then(() => SealingKeys.read(path)));

    expect([failure.code, failure.message.includes(path)]).toEqual(["BadConfiguration", true]);
  });

  it("refuses a file that does not exist", async () => {
    expect(
      await failureOf(Promise.resolve().then(() => SealingKeys.read("/nowhere/key"))),
    ).toMatchObject({
      code: "BadConfiguration",
    });
  });
});
