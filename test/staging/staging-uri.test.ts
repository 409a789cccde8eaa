import { describe, expect, it } from "vitest";
import { pathOfStagingUri } from "../../src/staging/staging-uri.ts";

const WRONG_URI = {
  code: "BadTaskConfiguration",
  message: "Value of node_staging_uri must be in format 'file://<absolute-path>'",
};

describe("pathOfStagingUri()", () => {
  it.each([
    ["a path", "file:///srv/staging", "/srv/staging"],
    ["a slash at its end", "file:///srv/staging/", "/srv/staging/"],
    ["what is written with percent signs", "file:///srv/a%20b%23c%25d", "/srv/a b#c%d"],
    ["letters beyond ASCII", "file:///srv/%C3%A9", "/srv/é"],
    ["steps upwards, taken at once", "file:///srv/staging/../other", "/srv/other"],
    ["the root", "file:///", "/"],
  ])("accepts %s", (_, uri, path) => {
    expect(pathOfStagingUri(uri)).toBe(path);
  });

  it.each([
    ["nothing", ""],
    ["a path", "/srv/staging"],
    ["one slash", "file:/srv/staging"],
    ["a host", "file://host/srv/staging"],
    ["this host", "file://localhost/srv/staging"],
    ["another scheme", "http:///srv/staging"],
    ["capitals", "FILE:///srv/staging"],
    ["a space before it", " file:///srv/staging"],
    ["an encoded slash", "file:///srv%2Fstaging"],
    ["a broken percent sign", "file:///srv/%zz"],
    ["an encoded zero byte", "file:///srv/a%00b"],
    ["a query", "file:///srv/staging?x=1"],
    ["a fragment", "file:///srv/staging#x"],
  ])("refuses %s, in Glance's words, naming it as the mistake", (_, uri) => {
    expect(() => pathOfStagingUri(uri)).toThrow(
      expect.objectContaining({ ...WRONG_URI, hint: `Correct "${uri}".` }),
    );
  });
});
