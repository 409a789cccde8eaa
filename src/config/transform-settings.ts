import { resolve } from "node:path";
import { z } from "zod";
import { VMDK_TYPES } from "../domain/format-policy.ts";
import { mistakeInPropertyName } from "../domain/image-fields.ts";
import { CONVERSION_TARGETS, type TransformSettings } from "../domain/transform-settings.ts";
import { bytes, durationMs } from "./quantities.ts";

const NAMES = ["decompress", "convert", "inject_metadata"] as const;

const ITEM_RULE = `must be one of ${NAMES.map((name) => `"${name}"`).join(", ")}, or {module: FILE} for a transform of your own`;
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
    const message = '"decompress" must come before "convert", which cannot read a compressed image';
    context.addIssue({ code: "custom", path: [convert], message });
  })
  .meta({
    description:
      "The transforms of every import, in the order in which they run: `decompress`, `convert`, `inject_metadata`, or `{module: FILE}` for a transform of your own. For example `[decompress, convert, {module: ./own.mjs}]`.",
    values: "list",
    default: "none",
  });

const propertyName = z.string().superRefine((name, context) => {
  const mistake = mistakeInPropertyName(name);
  if (mistake !== undefined) context.addIssue({ code: "custom", message: mistake });
});

/** The sections of the transforms that this software contains. */
export const transformSections = {
  decompress: z
    .strictObject({
      max_ratio: z.number().min(1).default(64).meta({
        description:
          "How many times larger than the compressed image its content may be. A content of up to 64 MiB is always accepted.",
      }),
      memory: bytes.default(256 * 1024 ** 2).meta({
        description: "The memory that decompression may use.",
      }),
      time_limit: durationMs.default(6 * 3_600_000).meta({
        description: "How long decompression may take.",
      }),
    })
    .prefault({}),
  convert: z
    .strictObject({
      output_format: z.enum(CONVERSION_TARGETS).default("raw").meta({
        description: "The format to which images are converted.",
      }),
      vmdk_type: z.enum(VMDK_TYPES).default("monolithicSparse").meta({
        description: "The type of a VMDK that is written.",
      }),
      memory: bytes.default(1024 ** 3).meta({
        description: "The address space that `qemu-img` may use.",
      }),
      time_limit: durationMs.default(6 * 3_600_000).meta({
        description: "How long conversion may take.",
      }),
    })
    .prefault({}),
  inject_metadata: z
    .strictObject({
      properties: z
        .record(propertyName, z.string("must be text; put it in quotes").max(65_535))
        .default({})
        .meta({
          description:
            "Properties that are set on an image when it becomes active. Names that Glance reserves are refused, such as `status`, and those that begin with `os_glance`.",
          values: "names with texts",
          default: "none",
        }),
      ignore_user_roles: z.array(z.string().min(1)).default(["admin"]).meta({
        description:
          "No property is set if the user who requests the import has one of these roles.",
        values: "list of roles",
      }),
    })
    .prefault({}),
};

/**
 * The settings of the transforms.
 *
 * @param folder - where relative paths start
 */
export function transformsOf(
  items: z.output<typeof configuredTransforms>,
  { decompress, convert, inject_metadata: inject }: z.output<z.ZodObject<typeof transformSections>>,
  folder: string,
): TransformSettings {
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
  };
}
