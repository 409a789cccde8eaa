import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { plainWordFindings } from "../lint/plain-words.mjs";
import { DECISION_TITLE, dateOf } from "./decisions.mjs";
import { lineAt, ROOT } from "./markdown.mjs";

/** @typedef {import("./markdown.mjs").Page} Page */

/**
 * A rule that a page breaks.
 *
 * @typedef {object} Finding
 * @property {string} path
 * @property {number} line
 * @property {string} message
 */

/** The largest width of a line: that of a screen. */
const WIDTH = 120;

/** The largest number of lines of README.md: a reader should read all of it. */
const README_LINES = 130;

/** Languages of blocks; test/docs runs or checks the blocks of each but `text`. */
const LANGUAGES = ["console", "sh", "ts", "js", "yaml", "json", "text"];

/** @type {Record<string, string>} */
const SCRIPTS = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).scripts;

/**
 * The rules of one page.
 *
 * @param {Page} page
 * @param {ReadonlyMap<string, Page>} pages - all of them, by path
 * @returns {Finding[]}
 */
export function brokenRules(page, pages) {
  return [
    ...widths(page),
    ...tables(page),
    ...languages(page),
    ...codeBlocks(page),
    ...files(page),
    ...npmScripts(page),
    ...words(page),
    ...page.links.flatMap((link) => linkMistakes(page, link, pages)),
    ...headings(page),
    ...decisionForm(page),
    ...(page.path === "README.md" && page.lines.length - 1 > README_LINES
      ? [finding(page, README_LINES, `has more than ${String(README_LINES)} lines`)]
      : []),
  ];
}

/**
 * The rules of all pages together: each page of docs/ is in its index.
 *
 * @param {ReadonlyMap<string, Page>} pages
 * @returns {Finding[]}
 */
export function missingInIndex(pages) {
  return [...pages.values()].flatMap((page) => {
    const folder = dirname(page.path);
    const index = pages.get(join(folder, "README.md"));
    if (folder === "." || index === undefined || index === page) return [];
    const isLinked = index.links.some(
      ({ target }) => normalize(join(folder, target)) === page.path,
    );
    return isLinked ? [] : [finding(page, 1, `is not linked from ${index.path}`)];
  });
}

/** @param {Page} page @param {number} line @param {string} message @returns {Finding} */
function finding({ path }, line, message) {
  return { path, line, message };
}

/** @param {Page} page */
function widths(page) {
  return page.lines.flatMap((line, index) => {
    if (line.length > WIDTH) return [finding(page, index + 1, `is wider than ${String(WIDTH)}`)];
    return /\s$/.test(line) ? [finding(page, index + 1, "ends with a space")] : [];
  });
}

/** @param {Page} page */
function tables(page) {
  return page.prose
    .split("\n")
    .flatMap((line, index) =>
      line.startsWith("|") && / {2,}\||\| {2,}\S|-{4,}/.test(page.lines[index] ?? "")
        ? [finding(page, index + 1, "has a table with padding")]
        : [],
    );
}

/** @param {Page} page */
function languages(page) {
  return page.blocks.flatMap(({ language, line }) =>
    LANGUAGES.includes(language)
      ? []
      : [finding(page, line, `has a block that is none of ${LANGUAGES.join(", ")}`)],
  );
}

/** @param {Page} page */
function words(page) {
  return plainWordFindings(page.prose).map(({ index, word, advice }) =>
    finding(page, lineAt(page.prose, index), `"${word.replace(/\s+/g, " ")}": ${advice}`),
  );
}

/**
 * Files of the repository that the text names: from its root, from src/, or from test/.
 *
 * @param {Page} page
 */
function files(page) {
  return page.codes.flatMap(({ text, line }) => {
    if (!/^[\w.-]+(?:\/[\w.-]+)+\.(?:ts|mjs|md|cjs)$/.test(text)) return [];
    const isThere = ["", "src", "test"].some((folder) => existsSync(join(ROOT, folder, text)));
    return isThere ? [] : [finding(page, line, `${text}: there is no such file`)];
  });
}

// Commands of npm itself that the pages name.
const NPM_COMMANDS = new Set(["ci", "pack"]);

/**
 * Scripts of package.json that the text names.
 *
 * @param {Page} page
 */
function npmScripts(page) {
  return page.codes.flatMap(({ text, line }) => {
    const [, name] = /^npm (?:run )?([\w:-]+)/.exec(text) ?? [];
    if (name === undefined || name in SCRIPTS || NPM_COMMANDS.has(name)) return [];
    return [finding(page, line, `npm run ${name}: package.json has no such script`)];
  });
}

/**
 * Blocks of code are files, so that they are compiled and run: see source.mjs.
 *
 * @param {Page} page
 */
function codeBlocks(page) {
  const generated = generatedLines(page.lines);
  return page.blocks.flatMap(({ language, line }) =>
    /^(ts|js)$/.test(language) && !generated.has(line)
      ? [finding(page, line, "has code that is not generated from a file")]
      : [],
  );
}

/** @param {readonly string[]} lines */
function generatedLines(lines) {
  let isInside = false;
  return new Set(
    lines.flatMap((line, index) => {
      if (line.startsWith("<!-- generated: ")) isInside = true;
      if (line === "<!-- /generated -->") isInside = false;
      return isInside ? [index + 1] : [];
    }),
  );
}

/** @param {Page} page */
function headings(page) {
  const titles = page.headings.filter(({ level }) => level === 1);
  return titles.length === 1 && page.headings[0]?.level === 1
    ? []
    : [finding(page, 1, "must begin with its one title")];
}

/** @param {Page} page */
function decisionForm(page) {
  if (!/^docs\/decisions\/\d/.test(page.path)) return [];
  const [, number] = DECISION_TITLE.exec(page.lines[0] ?? "") ?? [];
  const [, expected] = /^docs\/decisions\/(\d+)-/.exec(page.path) ?? [];
  return [
    ...(number !== undefined && number === expected
      ? []
      : [finding(page, 1, `must have the title "# ${expected ?? "NNNN"}: …"`)]),
    ...(dateOf(page.lines) === undefined
      ? [finding(page, 3, 'must have a line "Date: YYYY-MM-DD" below its title')]
      : []),
  ];
}

/**
 * @param {Page} page
 * @param {{ target: string, line: number }} link
 * @param {ReadonlyMap<string, Page>} pages
 */
function linkMistakes(page, { target, line }, pages) {
  const message = /^[a-z][a-z0-9+.-]*:/i.test(target)
    ? mistakeInAddress(target)
    : mistakeInPath(page, target, pages);
  return message === undefined ? [] : [finding(page, line, `${target}: ${message}`)];
}

/** @param {string} target */
function mistakeInAddress(target) {
  if (!URL.canParse(target)) return "is not a URL";
  const { protocol, hostname } = new URL(target);
  if (protocol !== "https:") return "must be a link of https";
  return hostname.includes(".") ? undefined : "must name a host";
}

/** @param {Page} page @param {string} target @param {ReadonlyMap<string, Page>} pages */
function mistakeInPath(page, target, pages) {
  const [path = "", anchor] = target.split("#");
  const file = path === "" ? page.path : normalize(join(dirname(page.path), path));
  if (path.startsWith("/") || file.startsWith("..")) return "must be a path of the repository";
  if (!existsSync(join(ROOT, file))) return "there is no such file";
  if (anchor === undefined) return undefined;
  if (statSync(join(ROOT, file)).isDirectory()) return "a directory has no anchors";
  const linked = pages.get(file);
  if (linked === undefined) return "only pages have anchors";
  return linked.headings.some((heading) => heading.anchor === anchor)
    ? undefined
    : `${file} has no such heading`;
}
