import { describe, expect, it } from "vitest";
import { isUuid, parseImportRequest } from "../../src/domain/import-request.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

/** Matches the refusal that names just these mistakes. */
function refusal(...mistakes: string[]): unknown {
  const message = `Cannot import: ${mistakes.join("; ")}`;
  return expect.objectContaining({ code: "BadRequest", message });
}

describe("isUuid()", () => {
  it("knows a UUID in lower case with hyphens", () => {
    expect(isUuid(IMAGE_ID)).toBe(true);
  });

  it.each([
    ["capitals", IMAGE_ID.toUpperCase()],
    ["no hyphens", IMAGE_ID.replaceAll("-", "")],
    ["braces", `{${IMAGE_ID}}`],
    ["a line after it", `${IMAGE_ID}\n`],
    ["a path before it", `../${IMAGE_ID}`],
    ["one digit less", IMAGE_ID.slice(1)],
    ["nothing", ""],
    ["no text", 7],
    ["nothing at all", undefined],
  ])("refuses %s", (_, text) => {
    expect(isUuid(text)).toBe(false);
  });
});

describe("parseImportRequest()", () => {
  it("takes the image alone", () => {
    expect(parseImportRequest({ image_id: IMAGE_ID })).toEqual({ image_id: IMAGE_ID });
  });

  it("takes all stores, and that not all must succeed", () => {
    const request = { image_id: IMAGE_ID, all_stores: true, all_stores_must_succeed: false };

    expect(parseImportRequest(request)).toEqual(request);
  });

  it("takes every field", () => {
    const request = {
      image_id: IMAGE_ID,
      method: "glance-direct",
      uri: "file:///srv/staging/disk.raw",
      stores: ["fast", "slow"],
      checksum: `sha256:${"0a".repeat(32)}`,
      size: 0,
      roles: ["admin"],
      transforms: ["convert", "decompress"],
      request_id: "17",
    };

    expect(parseImportRequest(request)).toEqual(request);
  });

  it("takes what an image takes over from one of another service", () => {
    const takes_over = { disk_format: "raw", container_format: "bare", properties: { hw_x: "y" } };
    const request = { image_id: IMAGE_ID, method: "web-download", uri: "https://a/b", takes_over };
    const failing = { image_id: IMAGE_ID, method: "web-download", source_failure: "no region" };

    expect(parseImportRequest(request)).toEqual(request);
    expect(parseImportRequest(failing)).toEqual(failing);
    for (const wrong of [
      { ...request, method: "glance-direct" },
      { ...request, takes_over: { ...takes_over, disk_format: "floppy" } },
      { ...request, takes_over: { ...takes_over, properties: { hw_x: 1 } } },
      { ...request, takes_over: { ...takes_over, more: "x" } },
      { ...request, takes_over: "raw" },
    ]) {
      expect(() => parseImportRequest(wrong)).toThrow(/takes_over/);
    }
  });

  it("takes fields that are set to nothing for absent ones", () => {
    const nothing = { method: undefined, uri: undefined, stores: undefined, request_id: undefined };

    expect(parseImportRequest({ image_id: IMAGE_ID, ...nothing })).toMatchObject({
      image_id: IMAGE_ID,
    });
  });

  it.each([
    ["nothing", undefined],
    ["null", null],
    ["a text", IMAGE_ID],
    ["a number", 7],
    ["a list", [{ image_id: IMAGE_ID }]],
  ])("refuses %s, and shows what a request looks like", (_, input) => {
    expect(() => parseImportRequest(input)).toThrow(
      expect.objectContaining({
        code: "BadRequest",
        message: 'An import request must be one object such as {"image_id": "<uuid>"}',
      }),
    );
  });

  it.each([
    ["no image", {}, "image_id must be a UUID, not absent"],
    ["an image that is not a UUID", { image_id: "7" }, 'image_id must be a UUID, not "7"'],
    [
      "an import method that does not exist",
      { image_id: IMAGE_ID, method: "glance-download" },
      'method must be glance-direct or web-download or copy-image, not "glance-download"',
    ],
    [
      "a download without a URL",
      { image_id: IMAGE_ID, method: "web-download" },
      "uri must be given for web-download, an http or https URL",
    ],
    [
      "a copy with a URL",
      { image_id: IMAGE_ID, method: "copy-image", uri: "file:///a" },
      "uri must be left out for copy-image, which copies from a store",
    ],
    [
      "a checksum of an unknown algorithm",
      { image_id: IMAGE_ID, checksum: "sha1:00" },
      'checksum must be sha256:, sha512: or md5: with its number of hex digits, not "sha1:00"',
    ],
    [
      "a checksum that is too short",
      { image_id: IMAGE_ID, checksum: "md5:00" },
      'checksum must be sha256:, sha512: or md5: with its number of hex digits, not "md5:00"',
    ],
    [
      "a size that is not a number of bytes",
      { image_id: IMAGE_ID, size: 1.5 },
      "size must be a whole number of bytes, not 1.5",
    ],
    [
      "roles that are not strings",
      { image_id: IMAGE_ID, roles: [7] },
      "roles must be a list of non-empty strings, not [7]",
    ],
    [
      "one transform twice",
      { image_id: IMAGE_ID, transforms: ["convert", "convert"] },
      'transforms must be a list of names of transforms, none twice, not ["convert","convert"]',
    ],
    [
      "a copy with transforms",
      { image_id: IMAGE_ID, method: "copy-image", transforms: [] },
      "transforms must be left out for copy-image, which copies the image as it is",
    ],
    ["an empty URI", { image_id: IMAGE_ID, uri: "" }, 'uri must be a non-empty string, not ""'],
    [
      "a URI that is not a string",
      { image_id: IMAGE_ID, uri: 7 },
      "uri must be a non-empty string, not 7",
    ],
    [
      "an empty request id",
      { image_id: IMAGE_ID, request_id: "" },
      'request_id must be a non-empty string, not ""',
    ],
    [
      "a user without an id",
      { image_id: IMAGE_ID, user_id: "" },
      'user_id must be a non-empty string, not ""',
    ],
    [
      "an API request that is a list",
      { image_id: IMAGE_ID, api_request: ["x"] },
      "api_request must be an object of at most 64 KiB of JSON, without NUL",
    ],
    [
      "a large API request, without repeating it",
      { image_id: IMAGE_ID, api_request: { filler: "ä".repeat(32 * 1024) } },
      "api_request must be an object of at most 64 KiB of JSON, without NUL",
    ],
    [
      "stores that are not a list",
      { image_id: IMAGE_ID, stores: "fast" },
      'stores must be a list of store names, not empty, none twice, not "fast"',
    ],
    [
      "no stores",
      { image_id: IMAGE_ID, stores: [] },
      "stores must be a list of store names, not empty, none twice, not []",
    ],
    [
      "one store twice",
      { image_id: IMAGE_ID, stores: ["fast", "fast"] },
      'stores must be a list of store names, not empty, none twice, not ["fast","fast"]',
    ],
    [
      "all stores that is not a boolean",
      { image_id: IMAGE_ID, all_stores: "true" },
      'all_stores must be true or false, not "true"',
    ],
    [
      "must succeed that is not a boolean",
      { image_id: IMAGE_ID, all_stores_must_succeed: 0 },
      "all_stores_must_succeed must be true or false, not 0",
    ],
    [
      "all stores and a choice of them",
      { image_id: IMAGE_ID, all_stores: true, stores: ["fast"] },
      "stores must be left out if all_stores is true",
    ],
    [
      "a store without a name",
      { image_id: IMAGE_ID, stores: [""] },
      'stores must be a list of store names, not empty, none twice, not [""]',
    ],
    [
      "a store that is not a string",
      { image_id: IMAGE_ID, stores: [7] },
      "stores must be a list of store names, not empty, none twice, not [7]",
    ],
    [
      "a field that imports do not have",
      { image_id: IMAGE_ID, store: "fast" },
      '"store" is not a field of an import (image_id, method, uri, stores, detect_format, all_stores, all_stores_must_succeed, checksum, size, takes_over, source_failure, roles, transforms, user_id, expected_owner, direct_upload, api_request, request_id)',
    ],
  ])("refuses %s", (_, input, mistake) => {
    expect(() => parseImportRequest(input)).toThrow(refusal(mistake));
  });

  it("names every mistake at once", () => {
    const input = { image: IMAGE_ID, image_id: 7, method: "x", uri: "", stores: [], request_id: 1 };

    expect(() => parseImportRequest(input)).toThrow(
      refusal(
        '"image" is not a field of an import (image_id, method, uri, stores, detect_format, all_stores, all_stores_must_succeed, checksum, size, takes_over, source_failure, roles, transforms, user_id, expected_owner, direct_upload, api_request, request_id)',
        "image_id must be a UUID, not 7",
        'method must be glance-direct or web-download or copy-image, not "x"',
        'uri must be a non-empty string, not ""',
        "stores must be a list of store names, not empty, none twice, not []",
        "request_id must be a non-empty string, not 1",
      ),
    );
  });
});
