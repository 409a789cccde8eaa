import { describe, expect, test } from "vitest";
import type { ImageView } from "../../src/client/image-view.ts";
import { answerTo } from "../../src/http/failure-answer.ts";
import { changesOf, readOperations, type PatchFlavour } from "../../src/http/json-patch.ts";
import { shownImage } from "./shown-image.ts";

function patched(body: unknown, flavour: PatchFlavour, image: Partial<ImageView> = {}) {
  return changesOf(shownImage(image), readOperations(body, flavour), flavour);
}

/** The status and the message of the refusal. */
function refusal(body: unknown, flavour: PatchFlavour = "v2.1", image: Partial<ImageView> = {}) {
  try {
    patched(body, flavour, image);
  } catch (error) {
    const { status, document } = answerTo(error, { id: "req-1", caller: undefined });
    return { status, message: document.error.message };
  }
  throw new Error("It was not refused");
}

describe("both flavours", () => {
  const flavours = [
    ["v2.1", (op: string, name: string, value?: unknown) => ({ op, path: `/${name}`, value })],
    ["v2.0", (op: string, name: string, value?: unknown) => ({ [op]: `/${name}`, value })],
  ] as const;

  test.each(flavours)("%s replaces attributes and properties", (flavour, operation) => {
    const body = [
      operation("replace", "name", "new"),
      operation("replace", "protected", true),
      operation("replace", "kind", "lab"),
      operation("add", "os_distro", "debian"),
      operation("remove", "old"),
      operation("replace", "tags", ["a", "b", "a"]),
    ];
    const image = { properties: { kind: "x", old: "y" } };
    expect(patched(body, flavour, image)).toMatchObject({
      name: "new",
      protected: true,
      tags: ["a", "b"],
      setProperties: { kind: "lab", os_distro: "debian" },
      removeProperties: ["old"],
    });
  });

  test.each(flavours)(
    "%s: a missing value is neither replaced nor removed",
    (flavour, operation) => {
      for (const op of ["replace", "remove"]) {
        expect(refusal([operation(op, "absent", "x")], flavour)).toEqual({
          status: 409,
          message: "Property absent does not exist.",
        });
      }
    },
  );

  test.each(flavours)("%s: operations come one after the other", (flavour, operation) => {
    const body = [
      operation("add", "x", "1"),
      operation("replace", "x", "2"),
      operation("remove", "x"),
    ];
    expect(patched(body, flavour)).toMatchObject({ setProperties: {}, removeProperties: [] });
  });

  test.each(flavours)("%s: attributes cannot be removed", (flavour, operation) => {
    expect(refusal([operation("remove", "name")], flavour)).toEqual({
      status: 403,
      message: "Property name may not be removed.",
    });
  });
});

test("the later flavour adds over what is there, the earlier one does not", () => {
  const image = { properties: { kind: "x" } };
  expect(patched([{ op: "add", path: "/kind", value: "y" }], "v2.1", image)).toMatchObject({
    setProperties: { kind: "y" },
  });
  expect(refusal([{ add: "/kind", value: "y" }], "v2.0", image)).toEqual({
    status: 409,
    message: "Property kind already present.",
  });
  expect(refusal([{ add: "/name", value: "y" }], "v2.0", image)).toEqual({
    status: 409,
    message: "Property name already present.",
  });
});

test.each([
  ["a/b", 400],
  ["", 400],
  ["/", 400],
  ["/a/b", 400],
  ["/a/", 400],
  ["/a~2", 400],
  ["/a~", 400],
  [7, 400],
])("the pointer %j is refused", (path, status) => {
  const found = refusal([{ op: "add", path, value: "x" }]);
  expect(found.status).toBe(status);
  expect(found.message).toContain("Invalid JSON pointer for this resource");
});

test.each([
  ["//kind", "kind"],
  ["/a~1b", "a/b"],
  ["/a~0b", "a~b"],
  ["/a~01b", "a~1b"],
])("the pointer %j is of %s", (path, name) => {
  expect(patched([{ op: "add", path, value: "x" }], "v2.1").setProperties).toEqual({ [name]: "x" });
});

test.each(["id", "status", "checksum", "size", "self", "stores", "os_hash_algo", "created_at"])(
  "%s is read-only",
  (name) => {
    expect(refusal([{ op: "replace", path: `/${name}`, value: "x" }])).toEqual({
      status: 403,
      message: `Attribute '${name}' is read-only.`,
    });
  },
);

test.each(["location", "deleted", "deleted_at", "os_glance_failed_import", "os_glance"])(
  "%s is reserved",
  (name) => {
    expect(refusal([{ op: "add", path: `/${name}`, value: "x" }])).toEqual({
      status: 403,
      message: `Attribute '${name}' is reserved.`,
    });
  },
);

test.each([
  [{}, "Request body must be a JSON array of operation objects."],
  ["x", "Request body must be a JSON array of operation objects."],
  [[1], "Operations must be JSON objects."],
  [[null], "Operations must be JSON objects."],
  [[[]], "Operations must be JSON objects."],
  [[{ path: "/x", value: "y" }], 'Unable to find "op" in JSON Schema change.'],
  [[{ op: "add", value: "y" }], 'Unable to find "path" in JSON Schema change.'],
  [[{ op: "add", path: "/x" }], 'Operation "add" requires a member named "value".'],
  [[{ op: "test", path: "/x", value: 1 }], "Invalid operation: 'test'."],
])("the body %j is refused", (body, message) => {
  const found = refusal(body);
  expect(found.status).toBe(400);
  expect(found.message).toContain(message);
});

test.each([
  ["name", 5],
  ["name", "x".repeat(256)],
  ["visibility", "everyone"],
  ["protected", "true"],
  ["min_disk", -1],
  ["min_ram", 2 ** 31],
  ["min_ram", 1.5],
  ["min_disk", null],
  ["disk_format", "docx"],
  ["tags", "red"],
  ["tags", ["x".repeat(256)]],
  ["kind", 5],
  ["kind", null],
])("%s cannot be %j", (name, value) => {
  const found = refusal([{ op: "add", path: `/${name}`, value }]);
  expect(found.status).toBe(400);
  expect(found.message).toContain(name);
});

test("formats are frozen once the data is there", () => {
  const body = [{ op: "replace", path: "/disk_format", value: "raw" }];
  expect(patched(body, "v2.1", { status: "queued" })).toMatchObject({ diskFormat: "raw" });
  expect(refusal(body, "v2.1", { status: "active" })).toEqual({
    status: 403,
    message: "Attribute disk_format can be only replaced for a queued image.",
  });
});

test("more than 128 properties or tags are refused", () => {
  const many = Array.from({ length: 129 }, (_, index) => `p${String(index)}`);
  const properties = many.map((name) => ({ op: "add", path: `/${name}`, value: "x" }));
  expect(refusal(properties).status).toBe(413);
  expect(refusal([{ op: "replace", path: "/tags", value: many }]).status).toBe(413);
  expect(patched(properties.slice(0, 128), "v2.1").setProperties).toHaveProperty("p127");
});

test("null removes a name and an owner", () => {
  const body = [
    { op: "replace", path: "/name", value: null },
    { op: "replace", path: "/owner", value: null },
  ];
  expect(patched(body, "v2.1")).toMatchObject({ name: null, owner: null });
});
