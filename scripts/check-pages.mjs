// Checks all pages of the documentation: links and anchors, words, width, tables, blocks, titles.
// `npm run check` runs it.
import { say } from "./commands.mjs";
import { pagePaths, readPage } from "./docs/markdown.mjs";
import { brokenRules, missingInIndex } from "./docs/rules.mjs";

const pages = new Map(pagePaths().map((path) => [path, readPage(path)]));
const findings = [
  ...[...pages.values()].flatMap((page) => brokenRules(page, pages)),
  ...missingInIndex(pages),
];
for (const { path, line, message } of findings) say(`${path}:${String(line)} ${message}`);
if (findings.length > 0) process.exitCode = 1;
