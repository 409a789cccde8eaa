import { z } from "zod";
import type { ImageView } from "../client/image-view.ts";
import type { ImageChanges } from "../domain/image-fields.ts";
import type { Caller } from "./caller.ts";
import { requireDoing, type SeenImage } from "./context.ts";
import { badRequest } from "./http-failure.ts";
import { isAttribute, MOST_PROPERTIES, requireSettable } from "./image-attributes.ts";
import { changesOf, type Operation, type PatchFlavour } from "./json-patch.ts";

const names = z
  .array(z.string())
  .max(10 * MOST_PROPERTIES)
  .default([]);

/** The body of a change, with all that the typed client takes. */
export const changesBody = z.strictObject({
  attributes: z.record(z.string(), z.unknown()).default({}).meta({
    description: "Attributes to set. A value of `tags` replaces all tags.",
  }),
  set_properties: z.record(z.string(), z.string()).default({}),
  remove_properties: names.meta({
    description: "A name that the image does not have is ignored.",
  }),
  add_tags: names,
  remove_tags: names,
});

type Changes = z.output<typeof changesBody>;

/** Reads the body of a change, without looking at an image. @throws HttpFailure 400, 403 */
export function readChanges(body: unknown): Changes {
  const { data, error } = changesBody.safeParse(body);
  if (data === undefined) throw badRequest(z.prettifyError(error));
  const unknown = Object.keys(data.attributes).find((name) => !isAttribute(name));
  if (unknown !== undefined) throw badRequest(`There is no attribute '${unknown}' to set.`);
  for (const name of [...Object.keys(data.set_properties), ...data.remove_properties]) {
    requireSettable(name, false);
    if (isAttribute(name)) throw badRequest(`'${name}' is an attribute, and not a property.`);
  }
  return data;
}

/** The operations that make these changes to the image as it is now. */
export function operationsIn(image: ImageView, wanted: Changes): Operation[] {
  const { attributes, set_properties: set, add_tags: added, remove_tags: removed } = wanted;
  const { tags: given = image.tags } = attributes;
  const isTagged = "tags" in attributes || added.length + removed.length > 0;
  const removedTags = new Set<unknown>(removed);
  const all = Array.isArray(given) ? [...(given as unknown[]), ...added] : given;
  const tags = Array.isArray(all) ? [...new Set(all)].filter((tag) => !removedTags.has(tag)) : all;
  const gone = [...new Set(wanted.remove_properties)].filter(
    (name) => Object.hasOwn(image.properties, name) && !Object.hasOwn(set, name),
  );
  const fields = { ...attributes, ...(isTagged ? { tags } : {}) };
  return [
    ...Object.entries(fields).map(([name, value]) => ({ op: "replace", name, value }) as const),
    ...Object.entries(set).map(([name, value]) => ({ op: "add", name, value }) as const),
    ...gone.map((name) => ({ op: "remove", name, value: undefined }) as const),
  ];
}

/**
 * The changes that these operations make to the image as it is now, if the policy allows them.
 *
 * @throws HttpFailure 400, 403, 409, 413
 */
export function allowedChanges(
  image: ImageView,
  operations: readonly Operation[],
  flavour: PatchFlavour,
  { caller, judged }: { readonly caller: Caller; readonly judged: SeenImage["judged"] },
): ImageChanges {
  const wanted = changesOf(image, operations, flavour);
  const { owner, visibility } = image;
  const now = { ...judged, owner, visibility };
  if (wanted.visibility === "public" && visibility !== "public") {
    requireDoing(caller, "publicize_image", now);
  }
  if (wanted.visibility === "community" && visibility !== "community") {
    requireDoing(caller, "communitize_image", now);
  }
  if (wanted.owner !== undefined && wanted.owner !== owner) {
    requireDoing(caller, "change_owner", now);
  }
  return wanted;
}
