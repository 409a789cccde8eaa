import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { parse } from "yaml";

/**
 * Twelve hex digits that identify the settings of a configuration file. They do not depend on
 * comments, the order of settings or the path of the file: workers on several hosts with the same
 * settings have the same digest.
 *
 * @returns undefined when the file cannot be read or is not YAML
 */
export function configDigest(path: string): string | undefined {
  try {
    const document: unknown = parse(readFileSync(path, "utf8"));
    return createHash("sha256").update(canonical(document)).digest("hex").slice(0, 12);
  } catch {
    return undefined;
  }
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_name, each: unknown) =>
    typeof each === "object" && each !== null && !Array.isArray(each)
      ? Object.fromEntries(Object.entries(each).sort(([a], [b]) => (a < b ? -1 : 1)))
      : each,
  );
}
