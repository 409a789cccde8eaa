import { describe, expect, test } from "vitest";
import { callerOf } from "../../src/http/caller.ts";
import { answerTo } from "../../src/http/failure-answer.ts";
import { pagePath, readListQuery } from "../../src/http/list-query.ts";

const ADMIN = callerOf("root", "ours", ["admin"]);
const MEMBER = callerOf("user", "ours", ["member"]);

function filterOf(query: string, caller = ADMIN) {
  return readListQuery(new URLSearchParams(query), caller).filter;
}

function refusal(query: string): { readonly status: number; readonly message: string } {
  try {
    filterOf(query);
  } catch (error) {
    const { status, document } = answerTo(error, { id: "req-1", caller: undefined });
    return { status, message: document.error.message };
  }
  throw new Error("It was not refused");
}

describe("limit", () => {
  test.each([
    ["", 25],
    ["limit=7", 7],
    ["limit=0", 0],
    ["limit=5000", 1000],
  ])("%j gives %i", (query, limit) => {
    expect(filterOf(query).limit).toBe(limit);
  });

  test.each([
    ["limit=x", "limit param must be an integer"],
    ["limit=1.5", "limit param must be an integer"],
    ["limit=", "limit param must be an integer"],
    ["limit=-1", "limit param must be positive"],
  ])("%j is refused", (query, message) => {
    expect(refusal(query)).toEqual({ status: 400, message });
  });
});

describe("sort", () => {
  test.each([
    ["", [{ key: "created_at", direction: "desc" }]],
    [
      "sort=name:asc,size",
      [
        { key: "name", direction: "asc" },
        { key: "size", direction: "desc" },
      ],
    ],
    ["sort_key=name&sort_dir=asc", [{ key: "name", direction: "asc" }]],
    ["sort_dir=asc", [{ key: "created_at", direction: "asc" }]],
    [
      "sort_key=name&sort_key=size&sort_dir=asc",
      [
        { key: "name", direction: "asc" },
        { key: "size", direction: "asc" },
      ],
    ],
    [
      "sort_key=name&sort_key=size&sort_dir=asc&sort_dir=desc",
      [
        { key: "name", direction: "asc" },
        { key: "size", direction: "desc" },
      ],
    ],
  ])("%j", (query, sort) => {
    expect(filterOf(query).sort).toEqual(sort);
  });

  test.each([
    "sort=name&sort_key=size",
    "sort=name&sort_dir=asc",
    "sort_key=name&sort_dir=asc&sort_dir=desc",
    "sort_key=location",
    "sort=name:up",
  ])("%j is refused", (query) => {
    expect(refusal(query).status).toBe(400);
  });
});

describe("lists of values", () => {
  test.each([
    ["name=a", ["a"]],
    ["name=in:a,b", ["a", "b"]],
    ['name=in:"a,b",c', ["a,b", "c"]],
    ['name=in:"a\\"b"', ['a"b']],
    ["name=eq:a", ["a"]],
    ['name=eq:"neq:a"', ["neq:a"]],
  ])("%j", (query, name) => {
    expect(filterOf(query).name).toEqual(name);
  });

  test.each(["name=like:a", "name=in:", "name=in:a,,b", 'name=in:"a', "name=in:a,"])(
    "%j is refused",
    (query) => {
      expect(refusal(query).status).toBe(400);
    },
  );

  test("an unknown word finds nothing", () => {
    expect(filterOf("status=gone").status).toEqual([]);
    expect(filterOf("disk_format=in:raw,docx").diskFormat).toEqual(["raw"]);
  });
});

test("tags and properties are all wanted", () => {
  expect(filterOf("tag=a&tag=b&os_distro=debian&kind=")).toMatchObject({
    tags: ["a", "b"],
    properties: { os_distro: "debian", kind: "" },
  });
});

describe("times", () => {
  const at = new Date("2026-08-21T12:34:56Z");
  test.each([
    ["created_at=gte:2026-08-21T12:34:56Z", [{ field: "created_at", op: "gte", at }]],
    ["updated_at=neq:2026-08-21T14:34:56%2B02:00", [{ field: "updated_at", op: "neq", at }]],
    ["created_at=2026-08-21T12:34:56", [{ field: "created_at", op: "eq", at }]],
    [
      "created_at=gt:2026-08-21T12:34:56Z&created_at=lt:2026-08-21T12:34:56Z",
      [
        { field: "created_at", op: "gt", at },
        { field: "created_at", op: "lt", at },
      ],
    ],
  ])("%j", (query, times) => {
    expect(filterOf(query).times).toEqual(times);
  });

  test.each([
    "created_at=in:2026-08-21T12:34:56Z",
    "created_at=gte:yesterday",
    "created_at=gte:",
    "created_at=gte:2026-02-31T12:00:00Z",
  ])("%j is refused", (query) => {
    expect(refusal(query).status).toBe(400);
  });
});

test.each([
  "visibility=everyone",
  "member_status=maybe",
  "protected=True",
  "protected=1",
  "os_hidden=maybe",
  "size_min=big",
  "size_min=1.5",
  "cores_min=1",
  "changes-since=2026-08-21",
  "marker=nonsense",
])("%j is refused", (query) => {
  const { status, message } = refusal(query);
  expect(status).toBe(400);
  expect(message).not.toBe("");
});

test("hidden images are listed on request alone", () => {
  expect(filterOf("").hidden).toBe(false);
  expect(filterOf("os_hidden=True").hidden).toBe(true);
});

describe("who sees what", () => {
  test("an administrator sees everything", () => {
    expect(filterOf("").seenBy).toBeUndefined();
  });

  test.each([
    ["", { project: "ours", memberStatus: "accepted", community: false }],
    ["member_status=all", { project: "ours", memberStatus: "all", community: false }],
    ["visibility=community", { project: "ours", memberStatus: "accepted", community: true }],
    ["visibility=all", { project: "ours", memberStatus: "accepted", community: true }],
    ["visibility=public", { project: "ours", memberStatus: "accepted", community: false }],
  ])("a member with %j", (query, seenBy) => {
    expect(filterOf(query, MEMBER).seenBy).toEqual(seenBy);
  });

  test("images that are being deleted are never listed", () => {
    expect(filterOf("").status).not.toContain("pending_delete");
    expect(filterOf("status=pending_delete").status).toEqual([]);
  });
});

test("the next page keeps every parameter, also repeated ones", () => {
  const query = new URLSearchParams("tag=a&tag=b&limit=2&marker=old&sort_key=name&sort_key=size");
  expect(pagePath("/v2/images", query, "new")).toBe(
    "/v2/images?tag=a&tag=b&limit=2&sort_key=name&sort_key=size&marker=new",
  );
  expect(pagePath("/v2/images", query, undefined)).not.toContain("marker");
});
