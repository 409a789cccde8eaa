import { resolve } from "node:path";
import { z } from "zod";
import { mistakeInPropertyName } from "../domain/image-fields.ts";
import { bytes, durationMs } from "./quantities.ts";

const NAMES = ["decompress", "convert", "inject_metadata"] as const;

const ITEM_RULE = `must be one of ${NAMES.map((name) => `"${name}"`).join(", ")}, or {module: FILE} for one of your own`;
const item = z.union([z.enum(NAMES), z.strictObject({ module: z.string().min(1) })], {
  error: ITEM_RULE,
});

/** `import.transforms`: in the order in which they run. */
export const configuredTransforms = z
  .array(item)
  .default([])
  .superRefine((items, context) => {
    const names = items.map((each) => (typeof each === "string" ? each : each.module));
    names.forEach((name, index) => {
      if (names.indexOf(name) === index) return;
      context.addIssue({ code: "custom", path: [index], message: `"${name}" is listed twice` });
    });
    const convert = names.indexOf("convert");
    if (convert === -1 || names.indexOf("decompress") < convert) return;
    const message = '"decompress" must come before "convert", which reads no compressed image';
    context.addIssue({ code: "custom", path: [convert], message });
  });

const propertyName = z.string().superRefine((name, context) => {
  const mistake = mistakeInPropertyName(name);
  if (mistake !== undefined) context.addIssue({ code: "custom", message: mistake });
});

/** The sections of the transforms that come with this software. */
export const transformSections = {
  decompress: z
    .strictObject({
      max_ratio: z.number().min(1).default(64),
      memory: bytes.default(256 * 1024 ** 2),
      time_limit: durationMs.default(6 * 3_600_000),
    })
    .prefault({}),
  convert: z
    .strictObject({
      output_format: z.enum(["raw", "qcow2", "vmdk"]).default("raw"),
      vmdk_type: z.enum(["monolithicSparse", "streamOptimized"]).default("monolithicSparse"),
      memory: bytes.default(1024 ** 3),
      time_limit: durationMs.default(6 * 3_600_000),
    })
    .prefault({}),
  inject_metadata: z
    .strictObject({
      properties: z
        .record(propertyName, z.string("must be text; put it in quotes").max(65_535))
        .default({}),
      ignore_user_roles: z.array(z.string().min(1)).default(["admin"]),
    })
    .prefault({}),
};

/**
 * Settings of the transforms: sizes in bytes, times in ms, paths absolute, every default in its
 * place.
 */
export type ConfiguredTransforms = ReturnType<typeof transformsOf>;

/** @param folder - where relative paths start */
export function transformsOf(
  items: z.output<typeof configuredTransforms>,
  { decompress, convert, inject_metadata: inject }: z.output<z.ZodObject<typeof transformSections>>,
  folder: string,
) {
  return {
    order: items.map((each) =>
      typeof each === "string" ? each : { module: resolve(folder, each.module) },
    ),
    decompress: {
      maxRatio: decompress.max_ratio,
      memoryBytes: decompress.memory,
      timeLimitMs: decompress.time_limit,
    },
    convert: {
      target: convert.output_format,
      vmdkType: convert.vmdk_type,
      memoryBytes: convert.memory,
      timeLimitMs: convert.time_limit,
    },
    injectMetadata: { properties: inject.properties, ignoreUserRoles: inject.ignore_user_roles },
  } as const;
}
