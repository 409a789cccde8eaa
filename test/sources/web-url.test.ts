import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { displayedUrl, needsSealing, parseWebUrl } from "../../src/sources/web-url.ts";
import { failureOf } from "../support/failure-of.ts";

describe("parseWebUrl()", () => {
  it("does not repeat a text that is not a URL", async () => {
    const failure = await failureOf(
      Promise.resolve().then(() => parseWebUrl("no url with a s3cret")),
    );

    expect(failure.code).toBe("BadRequest");
    expect(inspect(failure)).not.toContain("s3cret");
  });

  it.each([
    ["www.example.org/s3cret", "it has no scheme, such as https://"],
    ["http//example.org/s3cret", "it has no scheme, such as https://"],
    ["http://", "it has no host"],
    ["http:///s3cret/disk.img", "it has no host"],
    ["https:\\\\\\s3cret\\disk.img", "it has no host"],
    ["https://example.org:99999/s3cret", "its port must be a number, 65535 at most"],
    ["https://example.org:s3cret/", "its port must be a number, 65535 at most"],
    ["https://s3cret host/", "its host is neither a name nor an address"],
    ["https://[::1/s3cret", "its host is neither a name nor an address"],
    ["https://1.2.3.4.5/s3cret", "its host is neither a name nor an address"],
  ])("reports why %s is not a URL, without repeating it", async (text, reason) => {
    const failure = await failureOf(Promise.resolve().then(() => parseWebUrl(text)));

    expect(failure).toMatchObject({
      code: "BadRequest",
      message: `Cannot download from the given URI: ${reason}`,
      hint: expect.stringContaining("https://example.org/") as string,
    });
    expect(inspect(failure)).not.toContain("s3cret");
  });

  it.each([
    ["htp://example.org/a", "Did you mean https:// or http://?"],
    ["htpps://example.org/a", "Did you mean https:// or http://?"],
    ["hhtps://example.org/a", "https://"],
    ["file:///a/disk.img", "image-import import PATH"],
    ["s3://bucket/disk.img", "signed"],
    ["ftp://example.org/a", "download the file yourself"],
    ["https://me:pass@example.org/a", "signed"],
  ])("has a way out for %s", async (text, hint) => {
    const failure = await failureOf(Promise.resolve().then(() => parseWebUrl(text)));

    expect(failure.hint).toContain(hint);
  });

  it.each([
    ["HTTPS://EXAMPLE.org/A", "https://example.org/A"],
    [" https://example.org/a b \n", "https://example.org/a%20b"],
    ["http:/example.org/a", "http://example.org/a"],
    ["https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"],
    ["https://example.org/a%2Fb%20c#part", "https://example.org/a%2Fb%20c"],
    ["https://example.org/../../a?b=c", "https://example.org/a?b=c"],
  ])("reads %j", (text, href) => {
    expect(parseWebUrl(text).href).toBe(href);
  });

  it.each([
    ["ftp://example.org/s3cret", 'it begins with "ftp:", not with http: or https:'],
    ["file:///etc/s3cret", 'it begins with "file:", not with http: or https:'],
    ["https://s3cret@example.org/", "it must not contain a user name or password"],
    ["https://:s3cret@example.org/", "it must not contain a user name or password"],
  ])("refuses %s with a reason, without repeating it", async (text, reason) => {
    const failure = await failureOf(Promise.resolve().then(() => parseWebUrl(text)));

    expect(failure).toMatchObject({
      code: "BadRequest",
      message: `URI for web-download does not pass filtering: ${reason}`,
    });
    expect(inspect(failure)).not.toContain("s3cret");
  });
});

describe("displayedUrl()", () => {
  it("leaves out the parts that may contain a secret", () => {
    const url = new URL("https://user:pass@example.org:8443/a/disk.img?signature=1#part");

    expect(displayedUrl(url)).toBe("https://example.org:8443/a/disk.img");
  });
});

describe("displayedUrl() of a long path", () => {
  it("shows its start", () => {
    const url = new URL(`https://example.org/${"x".repeat(9000)}`);

    expect(displayedUrl(url)).toHaveLength("https://example.org".length + 501);
    expect(needsSealing(url.href)).toBe(false);
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
  ])("returns for %s: %s", (uri, needed) => {
    expect(needsSealing(uri)).toBe(needed);
  });
});
