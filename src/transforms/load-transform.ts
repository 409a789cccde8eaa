import { pathToFileURL } from "node:url";
import { ImportError } from "../domain/import-failure.ts";
import type { Transform } from "./transform.ts";

const NAME = /^[a-z0-9][a-z0-9_-]*$/;
const OPTIONAL = ["undo", "check"] as const;

/**
 * Loads a transform of the user: the default export of a module.
 *
 * @param path - absolute
 * @throws ImportError `BadConfiguration` naming the file and all mistakes at once
 */
export async function loadTransform(path: string): Promise<Transform> {
  const transform: unknown = (await load(path))["default"];
  const mistakes = mistakesIn(transform);
  if (mistakes.length === 0) return transform as Transform;
  throw new ImportError(
    "BadConfiguration",
    `Cannot use the transform "${path}": ${mistakes.join("; ")}`,
    { hint: "See docs/writing-a-transform.md for the exports of a transform." },
  );
}

async function load(path: string): Promise<Record<string, unknown>> {
  try {
    return (await import(pathToFileURL(path).href)) as Record<string, unknown>;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ImportError("BadConfiguration", `Cannot load the transform "${path}": ${reason}`, {
      cause,
    });
  }
}

function mistakesIn(transform: unknown): string[] {
  if (typeof transform !== "object" || transform === null) {
    return ["its default export must be an object with `name` and `run`"];
  }
  const { name, run, leavesBytes } = transform as Record<string, unknown>;
  const isNamed = typeof name === "string" && NAME.test(name);
  const isOdd = leavesBytes !== undefined && typeof leavesBytes !== "boolean";
  return [
    ...(isNamed
      ? []
      : ["`name` must be text of a-z, 0-9, _ and -, with a letter or a digit first"]),
    ...(typeof run === "function" ? [] : ["`run` must be a function"]),
    ...(isOdd ? ["`leavesBytes` must be true or false"] : []),
    ...OPTIONAL.flatMap((key) => {
      const given = (transform as Record<string, unknown>)[key];
      const isRight = given === undefined || typeof given === "function";
      return isRight ? [] : [`\`${key}\` must be a function, or absent`];
    }),
  ];
}
