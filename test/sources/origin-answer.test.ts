import { Readable } from "node:stream";
import type { Dispatcher } from "undici";
import { describe, expect, it } from "vitest";
import {
  judgeAnswer,
  type Continuation,
  type OriginAnswer,
} from "../../src/sources/origin-answer.ts";

const asked: Continuation = { startAt: 5, state: { validator: '"one"', sizeBytes: 10 } };
const rest = { "content-range": "bytes 5-9/10", "content-length": "5" };

function judge(
  statusCode: number,
  headers: Readonly<Record<string, string | readonly string[]>>,
  from: Continuation | undefined,
): OriginAnswer | undefined {
  const response = { statusCode, headers, body: Readable.from([]) };
  return judgeAnswer(
    {
      response: response as unknown as Dispatcher.ResponseData,
      url: new URL("http://a.example/b"),
    },
    from,
  );
}

describe("judgeAnswer()", () => {
  it("accepts the complete resource, with its size and its strong validator", () => {
    expect(judge(200, { "content-length": "10", etag: '"one"' }, undefined)).toMatchObject({
      startAt: 0,
      state: { validator: '"one"', sizeBytes: 10 },
    });
    expect(
      judge(200, { "transfer-encoding": "chunked", etag: 'W/"one"' }, undefined),
    ).toMatchObject({ startAt: 0, state: { validator: null, sizeBytes: null } });
  });

  it.each([
    ["a minute after", "Mon, 02 Nov 2026 10:01:00 GMT", "Mon, 02 Nov 2026 10:00:00 GMT"],
    ["just after", "Mon, 02 Nov 2026 10:00:59 GMT", null],
    ["at no time", undefined, null],
  ])("uses the last change as validator when the response was created %s", (_, date, validator) => {
    const headers = {
      "content-length": "10",
      "last-modified": "Mon, 02 Nov 2026 10:00:00 GMT",
      ...(date === undefined ? {} : { date }),
    };

    expect(judge(200, headers, undefined)?.state.validator).toBe(validator);
  });

  it("accepts the requested part", () => {
    expect(judge(206, { ...rest, etag: '"one"' }, asked)).toMatchObject({ startAt: 5 });
    expect(judge(206, rest, asked)).toMatchObject({ startAt: 5 });
    expect(judge(206, { ...rest, "content-range": "bytes 5-9/*" }, asked)).toMatchObject({
      state: { sizeBytes: 10 },
    });
  });

  it("restarts from byte 0 with a complete resource, or a part of another state", () => {
    expect(judge(200, { "content-length": "10", etag: '"two"' }, asked)).toMatchObject({
      startAt: 0,
      state: { validator: '"two"' },
    });
    expect(judge(206, { ...rest, etag: '"two"' }, asked)).toBeUndefined();
    const byDate = {
      ...asked,
      state: { ...asked.state, validator: "Mon, 02 Nov 2026 10:00:00 GMT" },
    };
    const later = "Tue, 03 Nov 2026 10:00:00 GMT";
    expect(judge(206, { ...rest, "last-modified": later }, byDate)).toBeUndefined();
    expect(judge(206, { ...rest, etag: '"any"' }, byDate)).toMatchObject({ startAt: 5 });
  });

  it.each([
    ["another first byte", "bytes 4-9/10", "6"],
    ["a last byte that is not there", "bytes 5-10/10", "6"],
    ["another length", "bytes 5-9/10", "4"],
    ["another size", "bytes 5-9/11", "5"],
    ["no bytes", "bytes */10", "5"],
    ["other units", "lines 5-9/10", "5"],
  ])("refuses a part with %s", (_, range, length) => {
    expect(() => judge(206, { "content-range": range, "content-length": length }, asked)).toThrow(
      expect.objectContaining({ code: "SourceRefused" }),
    );
  });

  it("accepts the end of a resource whose size was never stated", () => {
    const open = { startAt: 5, state: { validator: '"one"', sizeBytes: null } };

    expect(judge(416, { "content-range": "bytes */5" }, open)).toMatchObject({
      startAt: 5,
      state: { sizeBytes: 5 },
      body: undefined,
    });
    expect(() => judge(416, { "content-range": "bytes */4" }, open)).toThrow(
      "it ends before byte 5",
    );
    expect(() => judge(416, {}, asked)).toThrow("it ends before byte 5 of 10");
  });

  it("restarts from byte 0 when the range does not exist in another state", () => {
    const shorter = { "content-range": "bytes */4", etag: '"two"' };

    expect(judge(416, shorter, asked)).toBeUndefined();
  });

  it.each([
    "",
    "identity",
    "Identity",
    " identity ",
    "aws-chunked",
    "AWS-Chunked",
    "aws-chunked, identity",
    "aws-chunked,",
    ", ,",
    "binary",
    "none",
    "null",
    "8bit",
    "utf-8",
    "UTF8",
    "identity;q=1",
    ["aws-chunked", "identity"],
    ["", ""],
  ])("accepts bytes as they are sent when their Content-Encoding is %j", (coding) => {
    const headers = { "content-length": "10", "content-encoding": coding };

    expect(judge(200, headers, undefined)).toMatchObject({ startAt: 0, state: { sizeBytes: 10 } });
    expect(judge(206, { ...rest, "content-encoding": coding }, asked)).toBeDefined();
  });

  it.each([
    ["gzip", "gzip"],
    ["X-GZip", "x-gzip"],
    ["br", "br"],
    ["deflate", "deflate"],
    ["zstd", "zstd"],
    ["compress", "compress"],
    ["aws-chunked,gzip", "gzip"],
    ["identity, gzip;q=1", "gzip"],
    [["identity", "gzip"], "gzip"],
    ["something-new", "something-new"],
  ])("refuses bytes with the Content-Encoding %j, with a way out", (coding, named) => {
    const headers = { "content-length": "1", "content-encoding": coding };

    expect(() => judge(200, headers, undefined)).toThrow(
      expect.objectContaining({
        code: "SourceRefused",
        message: expect.stringContaining(`Content-Encoding "${named}"`) as string,
        hint: expect.stringMatching(/Download the file yourself, .*import it as a file/) as string,
      }),
    );
  });

  it("counts a repeated header once, and refuses lengths that differ", () => {
    const twice = { "content-length": ["10", "10"], etag: ['"one"', '"one"'] };

    expect(judge(200, twice, undefined)?.state).toEqual({ validator: '"one"', sizeBytes: 10 });
    expect(() => judge(200, { "content-length": ["10", "11"] }, undefined)).toThrow(
      'its response has the header "content-length" twice, with "10" and "11"',
    );
  });

  it("has no validator when two were sent", () => {
    const headers = { "content-length": "10", etag: ['"one"', '"two"'] };

    expect(judge(200, headers, undefined)?.state.validator).toBeNull();
  });

  it("uses the last change as validator when the ETag is weak or has no quotes", () => {
    const dates = {
      "content-length": "10",
      "last-modified": "Mon, 02 Nov 2026 10:00:00 GMT",
      date: "Mon, 02 Nov 2026 12:00:00 GMT",
    };

    for (const etag of ['W/"one"', "one"]) {
      expect(judge(200, { ...dates, etag }, undefined)?.state.validator).toBe(
        dates["last-modified"],
      );
    }
  });

  it("accepts a part that was not requested when it is the complete resource", () => {
    const all = { "content-range": "bytes 0-9/10", etag: '"one"' };

    expect(judge(206, { ...all, "content-length": "10" }, undefined)).toMatchObject({
      startAt: 0,
      state: { validator: '"one"', sizeBytes: 10 },
    });
    for (const range of ["bytes 0-8/10", "bytes 1-9/10", "bytes 0-9/*"]) {
      expect(() =>
        judge(206, { "content-range": range, "content-length": "9" }, undefined),
      ).toThrow("instead of all");
    }
  });

  it("accepts the 203 of a proxy like a 200", () => {
    expect(judge(203, { "content-length": "10" }, undefined)).toMatchObject({ startAt: 0 });
  });

  it.each(["bytes=5-9/10", "Bytes 5-9/10", "bytes  5-9/10", "bytes 5-9 / 10", " bytes 5-9/10 "])(
    "reads the range %j",
    (range) => {
      expect(judge(206, { ...rest, "content-range": range }, asked)).toMatchObject({ startAt: 5 });
    },
  );

  it.each([
    [{}, "neither a Content-Length nor chunks"],
    [{ "transfer-encoding": "gzip, chunked" }, 'Transfer-Encoding "gzip, chunked"'],
  ])("has a way out for a response with %j", (headers, reason) => {
    expect(() => judge(200, headers, undefined)).toThrow(
      expect.objectContaining({
        message: expect.stringContaining(reason) as string,
        hint: expect.stringContaining("import it as a file") as string,
      }),
    );
  });

  it.each([
    [401, "such as a signed one"],
    [403, "may have expired"],
    [404, "path of the URL"],
    [202, "has prepared it"],
    [400, "TLS"],
  ])("has a way out for a %s", (status, hint) => {
    expect(() => judge(status, {}, undefined)).toThrow(
      expect.objectContaining({
        code: "SourceRefused",
        hint: expect.stringContaining(hint) as string,
      }),
    );
  });

  it("shortens the texts of an origin", () => {
    const headers = { "content-length": "1", "content-encoding": "x".repeat(9000) };

    expect(() => judge(200, headers, undefined)).toThrow(/^Cannot download .{1,250}$/);
  });
});
