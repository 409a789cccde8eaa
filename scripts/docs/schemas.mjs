import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";
import { z } from "zod";
import { ROOT } from "./markdown.mjs";

/**
 * The JSON schemas of the documents that programs read.
 *
 * @param {Readonly<Record<string, import("zod").ZodType>>} documents
 */
export async function schemaFiles(documents) {
  return Promise.all(
    Object.entries(documents).map(async ([name, document]) =>
      generatedFile(`docs/schemas/${name}.json`, z.toJSONSchema(document)),
    ),
  );
}

/**
 * A JSON file of the documentation, as it should be.
 *
 * @param {string} path - from the root
 * @param {object} document
 */
export async function generatedFile(path, document) {
  const file = join(ROOT, path);
  const text = await format(JSON.stringify(document), { parser: "json", printWidth: 100 });
  const isStale = !existsSync(file) || readFileSync(file, "utf8") !== text;
  return { path, text, isStale };
}
