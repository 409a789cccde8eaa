import { InvalidArgumentError } from "commander";
import type { TimeCondition } from "../domain/image-filter.ts";
import { instantOf } from "./list-options.ts";

const FIELDS: readonly TimeCondition["field"][] = ["created_at", "updated_at"];
const OPERATORS: readonly TimeCondition["op"][] = ["gt", "gte", "lt", "lte", "eq", "neq"];

/** Reads a condition such as `created_at:gte:2026-01-31`, after those that were given before. */
export function timesOf(
  value: string,
  earlier: readonly TimeCondition[] = [],
): readonly TimeCondition[] {
  const [, name, operator, time = ""] = /^([^:]*):([^:]*):(.+)$/.exec(value) ?? [];
  const field = FIELDS.find((each) => each === name);
  const op = OPERATORS.find((each) => each === operator);
  if (field === undefined || op === undefined) {
    throw new InvalidArgumentError(
      `It must be ${FIELDS.join(" or ")}, one of ${OPERATORS.join(", ")}, and a time, separated by colons.`,
    );
  }
  // Times are compared to the second. So a time copied from a document, which has more digits,
  // equals that of its image.
  const seconds = Math.floor(instantOf(time).getTime() / 1000);
  return [...earlier, { field, op, at: new Date(seconds * 1000) }];
}
