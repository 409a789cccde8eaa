import { readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { ROOT } from "./markdown.mjs";

const LANGUAGES = new Map([
  [".ts", "ts"],
  [".mjs", "js"],
  [".yaml", "yaml"],
]);

/**
 * A file of the repository as a block, or one declaration of it. A block that is a file is
 * type-checked, linted and run like any other file.
 *
 * @param {string} name - the path, or `PATH#NAME` for what the file exports as NAME
 */
export function sourceBlock(name) {
  const [path = "", declaration] = name.split("#");
  const text = readFileSync(join(ROOT, path), "utf8");
  const shown = declaration === undefined ? withoutHead(text) : declarationIn(text, declaration);
  if (shown === undefined) throw new Error(`Cannot find ${declaration ?? ""} in ${path}`);
  return `\`\`\`${LANGUAGES.get(extname(path)) ?? "text"}\n${shown.trim()}\n\`\`\``;
}

/**
 * The text of an example without the comment at its top, which says how it is run: the page says
 * that in its own words. @param {string} text
 */
function withoutHead(text) {
  return text.replace(/^(\/\/[^\n]*\n)+\n?/, "");
}

/** @param {string} text @param {string} name */
function declarationIn(text, name) {
  const pattern = `(?:/\\*\\*(?:(?!\\*/)[\\s\\S])*\\*/\\n)?export (?:interface|type|const) ${name}\\b[\\s\\S]*?\\n}`;
  return new RegExp(pattern).exec(text)?.[0];
}
