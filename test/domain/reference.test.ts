import { describe, expect, it } from "vitest";
import { fullId, idsThatBeginWith, isFoundByFewDigits } from "../../src/domain/reference.ts";

const ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

describe("fullId()", () => {
  it.each([ID, ID.toUpperCase()])("takes a UUID in any case: %s", (text) => {
    expect(fullId(text)).toBe(ID);
  });

  it.each(["", ID.slice(0, -1), `${ID}0`, ID.replaceAll("-", ""), "debian"])(
    'does not take "%s"',
    (text) => {
      expect(fullId(text)).toBeUndefined();
    },
  );
});

describe("idsThatBeginWith()", () => {
  it.each([
    ["6", "60000000-0000-0000-0000-000000000000", "6fffffff-ffff-ffff-ffff-ffffffffffff"],
    ["6D2F", "6d2f0000-0000-0000-0000-000000000000", "6d2fffff-ffff-ffff-ffff-ffffffffffff"],
    ["6d2f0c1e-", "6d2f0c1e-0000-0000-0000-000000000000", "6d2f0c1e-ffff-ffff-ffff-ffffffffffff"],
    ["6d2f0c1e-8A", "6d2f0c1e-8a00-0000-0000-000000000000", "6d2f0c1e-8aff-ffff-ffff-ffffffffffff"],
    ["6d2f0c1e8a", "6d2f0c1e-8a00-0000-0000-000000000000", "6d2f0c1e-8aff-ffff-ffff-ffffffffffff"],
    [ID.replaceAll("-", ""), ID, ID],
    [ID, ID, ID],
  ])('"%s" begins the ids from %s to %s', (text, first, last) => {
    expect(idsThatBeginWith(text)).toEqual({ first, last });
  });

  it.each([
    "",
    "g",
    "debian",
    "-6d",
    "6d2f-0c",
    "6d2f0c1e--",
    `${ID}0`,
    "0".repeat(33),
    "6d%",
    "6d\n",
  ])('no id begins with "%s"', (text) => {
    expect(idsThatBeginWith(text)).toBeUndefined();
  });
});

describe("isFoundByFewDigits()", () => {
  it.each([
    ["6", true],
    ["6D2F0C1", true],
    ["6d2f0c1e", false],
    ["6d2f0c1e-8a", false],
    [ID, false],
    ["debian", false],
    ["cafe", false],
  ])('"%s" is %s', (reference, expected) => {
    expect(isFoundByFewDigits(ID, reference)).toBe(expected);
  });
});
