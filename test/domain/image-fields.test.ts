import { describe, expect, it } from "vitest";
import {
  imageNameOf,
  mistakeInMember,
  mistakeInPropertyName,
  requireImageFields,
  type ImageFields,
} from "../../src/domain/image-fields.ts";

describe("mistakeInPropertyName()", () => {
  it.each([
    ["id", "is read-only"],
    ["status", "is read-only"],
    ["checksum", "is read-only"],
    ["size", "is read-only"],
    ["virtual_size", "is read-only"],
    ["os_hash_algo", "is read-only"],
    ["os_hash_value", "is read-only"],
    ["created_at", "is read-only"],
    ["updated_at", "is read-only"],
    ["direct_url", "is read-only"],
    ["self", "is read-only"],
    ["file", "is read-only"],
    ["schema", "is read-only"],
    ["stores", "is read-only"],
    ["locations", "is read-only"],
    ["location", "is reserved"],
    ["deleted", "is reserved"],
    ["deleted_at", "is reserved"],
    ["os_glance_import_task", "is reserved"],
    ["os_glance", "is reserved"],
    ["owner", "not a property"],
    ["disk_format", "not a property"],
    ["min_ram", "not a property"],
    ["visibility", "not a property"],
  ])("refuses %s, as Glance does", (name, reason) => {
    expect(mistakeInPropertyName(name)).toContain(reason);
    expect(mistakeInPropertyName(name)).toContain(`'${name}'`);
  });

  it.each(["os_distro", "hw_disk_bus", "trait:CUSTOM_A", "os_hash", "Size", "my owner", "größe"])(
    "accepts %s",
    (name) => {
      expect(mistakeInPropertyName(name)).toBeUndefined();
    },
  );

  it("refuses a name that is empty, too long, or not printable", () => {
    expect(mistakeInPropertyName("")).toContain("needs a name");
    expect(mistakeInPropertyName("x".repeat(256))).toContain("255 at most");
    expect(mistakeInPropertyName("a\nb")).toContain("control character");
  });
});

describe("requireImageFields()", () => {
  it.each<[string, ImageFields]>([
    ["a long name", { name: "x".repeat(256) }],
    ["a name with a line end", { name: "a\nb" }],
    ["a name with NUL", { name: "a\0b" }],
    ["a long owner", { owner: "x".repeat(256) }],
    ["a reserved property", { properties: { status: "active" } }],
    ["a long value", { properties: { a: "x".repeat(65_536) } }],
    ["a value with NUL", { properties: { a: "x\0" } }],
    ["a value with half of a surrogate pair", { properties: { a: "x\ud800" } }],
    ["a name with half of a surrogate pair", { name: "x\udc00" }],
    ["a long tag", { tags: ["x".repeat(256)] }],
    ["an empty tag", { tags: [""] }],
    ["a disk that is negative", { minDisk: -1 }],
    ["memory that is a fraction", { minRam: 0.5 }],
    ["more memory than a column holds", { minRam: 2 ** 31 }],
  ])("refuses %s", (_, fields) => {
    expect(() => {
      requireImageFields(fields);
    }).toThrow(expect.objectContaining({ code: "BadRequest" }));
  });

  it("accepts what fits exactly", () => {
    expect(() => {
      requireImageFields({
        name: "x".repeat(255),
        owner: "",
        properties: { [`y${"x".repeat(254)}`]: `line\n${"x".repeat(65_530)}` },
        tags: ["x".repeat(255)],
        minDisk: 0,
        minRam: 2 ** 31 - 1,
      });
    }).not.toThrow();
  });
});

describe("requireImageFields(), of characters outside of the basic plane", () => {
  it("counts characters, not halves of them", () => {
    const longest = "🦆".repeat(255);

    expect(() => {
      requireImageFields({ name: longest, tags: [longest], properties: { [longest]: "" } });
    }).not.toThrow();
    expect(() => {
      requireImageFields({ name: `${longest}x` });
    }).toThrow("The name has 256 characters, and may have 255 at most");
  });
});

describe("mistakeInMember()", () => {
  it("finds an empty, a long and an unprintable id", () => {
    expect(mistakeInMember("")).toBe("Member can't be empty");
    expect(mistakeInMember("x".repeat(256))).toContain("255 at most");
    expect(mistakeInMember("a\nb")).toContain("control character");
    expect(mistakeInMember("x".repeat(255))).toBeUndefined();
  });
});

describe("imageNameOf()", () => {
  it("makes a name of any text", () => {
    expect(imageNameOf("disk\n\0.raw")).toBe("disk__.raw");
    expect(imageNameOf("x".repeat(999))).toHaveLength(255);
  });
});
