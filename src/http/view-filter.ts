import { z } from "zod";
import { badRequest } from "./http-failure.ts";

/** The largest page of a list for `image-import --api`. */
export const LARGEST_LIMIT = 1000;

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
