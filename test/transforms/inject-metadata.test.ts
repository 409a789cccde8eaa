import { describe, expect, it } from "vitest";
import { injectMetadata } from "../../src/transforms/inject-metadata.ts";
import type { TransformWork } from "../../src/transforms/transform.ts";

const PROPERTIES = { origin: "web", reviewed: "no" };
const transform = injectMetadata({ properties: PROPERTIES, ignoreUserRoles: ["admin", "curator"] });

/** The part of the work that the transform reads. */
function workFor(roles: readonly string[]): TransformWork {
  const image = { id: "an image", epoch: 1, diskFormat: "raw", containerFormat: "bare", roles };
  return { image } as TransformWork;
}

describe("injectMetadata()", () => {
  it.each([[[]], [["member"]], [["Admin", "administrator"]]])(
    "sets the properties for roles %j, and leaves the bytes as they are",
    async (roles) => {
      expect(await transform.run(workFor(roles))).toEqual({
        hasProduct: false,
        properties: PROPERTIES,
      });
    },
  );

  it.each([[["admin"]], [["member", "curator"]]])(
    "sets no properties for roles %j",
    async (roles) => {
      expect(await transform.run(workFor(roles))).toBeUndefined();
    },
  );
});
