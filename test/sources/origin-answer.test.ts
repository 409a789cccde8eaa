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
  it("takes the whole, with its size and what is strong enough to go on by", () => {
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
  ])("goes by the last change when the answer was made %s", (_, date, validator) => {
    const headers = {
      "content-length": "10",
      "last-modified": "Mon, 02 Nov 2026 10:00:00 GMT",
      ...(date === undefined ? {} : { date }),
    };

    expect(judge(200, headers, undefined)?.state.validator).toBe(validator);
  });

  it("takes the part that was asked for", () => {
    expect(judge(206, { ...rest, etag: '"one"' }, asked)).toMatchObject({ startAt: 5 });
    expect(judge(206, rest, asked)).toMatchObject({ startAt: 5 });
    expect(judge(206, { ...rest, "content-range": "bytes 5-9/*" }, asked)).toMatchObject({
      state: { sizeBytes: 10 },
    });
  });

  it("begins afresh with what is whole, or part of something else", () => {
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

  it("takes it for the end when a size was never told, and nothing more is there", () => {
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

  it("begins afresh when nothing more is there of something else", () => {
    const shorter = { "content-range": "bytes */4", etag: '"two"' };

    expect(judge(416, shorter, asked)).toBeUndefined();
  });

  it("refuses a header that is said twice", () => {
    const headers = { "content-length": "1", "content-encoding": ["identity", "gzip"] };

    expect(() => judge(200, headers, undefined)).toThrow(
      'its answer has the header "content-encoding" twice',
    );
  });

  it("tells no more of what an origin says than people can read", () => {
    const headers = { "content-length": "1", "content-encoding": "x".repeat(9000) };

    expect(() => judge(200, headers, undefined)).toThrow(/^Cannot download .{1,200}$/);
  });
});
