import { z } from "zod";
import { isUuid } from "../domain/import-request.ts";
import { badRequest } from "./http-failure.ts";

/** The largest page of a list for `image-import --api`. */
export const LARGEST_LIMIT = 1000;

/** Part of a filter: text that Postgres can keep. */
export const text = z.string().refine((given) => !given.includes("\0"), "has a NUL character");

/** Part of a filter: an id. Any hex digits: clients choose the ids of images. */
export const id = z.string().toLowerCase().refine(isUuid, "is not a UUID");

/** Part of a filter: a time that Postgres can read. */
export const time = z.coerce
  .date()
  .min(new Date("0001-01-01T00:00:00Z"))
  .max(new Date("9999-12-31T23:59:59.999Z"));

/** A filter of the typed client that was sent as JSON; null: none. @throws HttpFailure 400 */
export function readJsonFilter<Schema extends z.ZodType>(
  schema: Schema,
  json: string | null,
): z.output<Schema> {
  let given: unknown;
  try {
    given = JSON.parse(json ?? "{}");
  } catch (cause) {
    throw badRequest("The parameter filter is not JSON.", { cause });
  }
  const { data, error } = schema.safeParse(given);
  if (error === undefined) return data;
  throw badRequest(`The parameter filter is not valid: ${z.prettifyError(error)}`);
}
