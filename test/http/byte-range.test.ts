import { expect, test } from "vitest";
import { readRange } from "../../src/http/byte-range.ts";
import { answerTo } from "../../src/http/failure-answer.ts";

test.each([
  [undefined, undefined],
  ["bytes=0-4", { start: 0, end: 4 }],
  ["bytes=5-", { start: 5, end: 9 }],
  ["bytes=-2", { start: 8, end: 9 }],
  ["bytes=-100", { start: 0, end: 9 }],
  ["bytes=4-100", { start: 4, end: 9 }],
  ["bytes 0-4/*", { start: 0, end: 4 }],
  ["bytes 0-4/10", { start: 0, end: 4 }],
])("%j of ten bytes", (header, range) => {
  expect(readRange(header, 10)).toEqual(range);
});

test.each([
  ["bytes=0-1,3-4", 10, 400],
  ["bytes=10-", 10, 416],
  ["bytes=5-4", 10, 416],
  ["bytes=-0", 10, 416],
  ["bytes=-", 10, 416],
  ["bytes=x-y", 10, 416],
  ["lines=1-2", 10, 416],
  ["bytes=0-0", 0, 416],
])("%j of %i bytes is refused", (header, sizeBytes, expected) => {
  try {
    readRange(header, sizeBytes);
    expect.unreachable();
  } catch (error) {
    expect(answerTo(error, { id: "req-1", caller: undefined }).status).toBe(expected);
  }
});
