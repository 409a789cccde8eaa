import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** The directory that holds README.md. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * A fenced block of a page.
 *
 * @typedef {object} Block
 * @property {string} language - the first word behind the fence; empty when there is none
 * @property {string} text - without the fences, ended by a newline
 * @property {number} line - of its first line, from 1
 */

/**
 * A page of documentation, taken apart.
 *
 * @typedef {object} Page
 * @property {string} path - from the root of the repository
 * @property {string} text
 * @property {readonly string[]} lines
 * @property {readonly { level: number, text: string, anchor: string, line: number }[]} headings
 * @property {readonly { target: string, line: number }[]} links
 * @property {readonly Block[]} blocks
 * @property {readonly { text: string, line: number }[]} codes - the spans of code
 * @property {string} prose - the text with spaces in the place of code, addresses of links and
 *   comments, so that its lines and columns are those of the page
 */

/** Paths of all pages: those in the root, and those below docs/. */
export function pagePaths() {
  const inRoot = readdirSync(ROOT).filter((name) => name.endsWith(".md"));
  const inDocs = readdirSync(join(ROOT, "docs"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => join("docs", name));
  return [...inRoot, ...inDocs].sort();
}

/**
 * Reads a page.
 *
 * @param {string} path - from the root of the repository
 * @returns {Page}
 */
export function readPage(path) {
  const text = readFileSync(join(ROOT, path), "utf8");
  return parsePage(relative(ROOT, join(ROOT, path)), text);
}

/**
 * Takes the text of a page apart.
 *
 * @param {string} path
 * @param {string} text
 * @returns {Page}
 */
export function parsePage(path, text) {
  const lines = text.split("\n");
  const { blocks, outside } = withoutBlocks(lines);
  const uncommented = outside.join("\n").replace(/<!--[\s\S]*?-->/g, blank);
  /** @type {{ text: string, line: number }[]} */
  const codes = [];
  const uncoded = uncommented.replace(
    /(`+)(?!`)([\s\S]*?[^`])\1(?!`)/g,
    (whole, ...[, code, at]) => {
      codes.push({ text: String(code), line: lineAt(uncommented, Number(at)) });
      return blank(whole);
    },
  );
  return {
    path,
    text,
    lines,
    blocks,
    headings: headingsIn(uncommented.split("\n")),
    codes,
    links: linksIn(uncoded.split("\n")),
    prose: uncoded.replace(/\]\([^)\s]*\)/g, blank),
  };
}

/** @param {readonly string[]} lines */
function withoutBlocks(lines) {
  /** @type {Block[]} */
  const blocks = [];
  /** @type {string[]} */
  const outside = [];
  /** @type {{ fence: string, language: string, line: number, text: string[] } | undefined} */
  let open;
  lines.forEach((line, index) => {
    const [, fence, info = ""] = /^\s*(`{3,}|~{3,})\s*(.*)$/.exec(line) ?? [];
    if (open !== undefined) {
      if (fence === open.fence && info === "") {
        blocks.push({ language: open.language, line: open.line, text: asText(open.text) });
        open = undefined;
      } else open.text.push(line);
      outside.push(" ".repeat(line.length));
    } else if (fence !== undefined) {
      const [language = ""] = info.split(/\s/);
      open = { fence, language, line: index + 2, text: [] };
      outside.push(" ".repeat(line.length));
    } else outside.push(line);
  });
  return { blocks, outside };
}

/** @param {readonly string[]} lines */
function asText(lines) {
  const indent = Math.min(
    ...lines.filter((line) => line !== "").map((line) => line.length - line.trimStart().length),
  );
  return lines.map((line) => `${line.slice(indent)}\n`).join("");
}

/**
 * The line of a place in a text, from 1.
 *
 * @param {string} text
 * @param {number} index
 */
export function lineAt(text, index) {
  return text.slice(0, index).split("\n").length;
}

/** @param {string} text */
function blank(text) {
  return text.replace(/[^\n]/g, " ");
}

/** @param {readonly string[]} lines */
function headingsIn(lines) {
  /** @type {Map<string, number>} */
  const seen = new Map();
  return lines.flatMap((line, index) => {
    const [, marks = "", text = ""] = /^(#{1,6}) +(.*?)\s*$/.exec(line) ?? [];
    if (marks === "") return [];
    const base = anchorOf(text);
    const count = seen.get(base) ?? 0;
    seen.set(base, count + 1);
    const anchor = count === 0 ? base : `${base}-${String(count)}`;
    return [{ level: marks.length, text, anchor, line: index + 1 }];
  });
}

/**
 * The anchor that GitHub gives a heading.
 *
 * @param {string} heading
 */
export function anchorOf(heading) {
  return heading
    .toLowerCase()
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replace(/\s/g, "-");
}

/** @param {readonly string[]} lines */
function linksIn(lines) {
  return lines.flatMap((line, index) => {
    const inline = [...line.matchAll(/\]\(\s*<?([^)>\s]*)>?[^)]*\)/g)];
    const defined = [...line.matchAll(/^\s*\[[^\]]+\]:\s*<?([^>\s]+)/g)];
    const plain = [...line.matchAll(/<((?:https?|mailto):[^>\s]+)>/g)];
    return [...inline, ...defined, ...plain].map(([, target = ""]) => ({
      target,
      line: index + 1,
    }));
  });
}
