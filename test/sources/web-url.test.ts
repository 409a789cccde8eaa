import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { displayedUrl, needsSealing, parseWebUrl } from "../../src/sources/web-url.ts";
import { failureOf } from "../support/failure-of.ts";

describe("parseWebUrl()", () => {
  it("does not repeat what is no URL", async () => {
    const failure = await failureOf(
      Promise.resolve().then(() => parseWebUrl("no url with a s3cret")),
    );

    expect(failure.code).toBe("BadRequest");
    expect(inspect(failure)).not.toContain("s3cret");
  });

  it.each([
    ["ftp://example.org/s3cret", 'it begins with "ftp:", and must begin with http: or https:'],
    ["file:///etc/s3cret", 'it begins with "file:", and must begin with http: or https:'],
    ["https://s3cret@example.org/", "it must hold no user name or password"],
    ["https://:s3cret@example.org/", "it must hold no user name or password"],
  ])("refuses %s, and says why without repeating it", async (text, reason) => {
    const failure = await failureOf(Promise.resolve().then(() => parseWebUrl(text)));

    expect(failure).toMatchObject({
      code: "BadRequest",
      message: `URI for web-download does not pass filtering: ${reason}`,
    });
    expect(inspect(failure)).not.toContain("s3cret");
  });
});

describe("displayedUrl()", () => {
  it("leaves out what may be a secret", () => {
    const url = new URL("https://user:pass@example.org:8443/a/disk.img?signature=1#part");

    expect(displayedUrl(url)).toBe("https://example.org:8443/a/disk.img");
  });
});

describe("needsSealing()", () => {
  it.each([
    ["https://example.org/disk.img", false],
    ["https://EXAMPLE.org:443/disk.img", false],
    ["file:///staging/disk.img", false],
    ["no url", false],
    ["https://example.org/disk.img?signature=1", true],
    ["https://user:pass@example.org/disk.img", true],
    ["https://example.org/disk.img#secret", true],
  ])("says of %s: %s", (uri, needed) => {
    expect(needsSealing(uri)).toBe(needed);
  });
});
