import type { ActivityInterceptorsFactory } from "@temporalio/worker";
import { translateFailures } from "./translate-failures.ts";

/** Names of an order's fields that every line of its step has. */
const NAMED = ["image_id", "task_id", "store", "transform"] as const;

/**
 * Translates the failures of each step, and names image, task and store in the lines that are about
 * it.
 */
export const stepInterceptors: ActivityInterceptorsFactory = () => {
  let attributes: Record<string, string> = {};
  return {
    inbound: {
      async execute(input, next) {
        attributes = attributesOf(input.args);
        return translateFailures.execute?.(input, next);
      },
    },
    outbound: {
      getLogAttributes: (input, next) => next({ ...input, ...attributes }),
    },
  };
};

function attributesOf([order]: readonly unknown[]): Record<string, string> {
  if (typeof order !== "object" || order === null) return {};
  const fields = order as Readonly<Record<string, unknown>>;
  return Object.fromEntries(
    NAMED.flatMap((name) => {
      const value = fields[name];
      return typeof value === "string" ? [[name, value]] : [];
    }),
  );
}
