import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { parse } from "yaml";

/**
 * Twelve hex digits that stand for what a configuration file says. Comments, the order of settings
 * and the place of the file change nothing: workers on several hosts with the same settings have
 * the same digest.
 *
 * @returns undefined when the file can't be read or is not YAML
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
