// Fills the generated parts of the documentation from the program: `npm run docs`. With `--check`
// nothing is written, and a page that is not up to date is an error.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { say } from "./commands.mjs";
import { commandsOf, commandText, globalOptions } from "./docs/commands.mjs";
import { decisionIndex } from "./docs/decisions.mjs";
import { failureList } from "./docs/failures.mjs";
import { metricList } from "./docs/metrics.mjs";
import { pagePaths, readPage, ROOT } from "./docs/markdown.mjs";
import { fillRegions } from "./docs/regions.mjs";
import { generatedFile, schemaFiles } from "./docs/schemas.mjs";
import { routeList } from "./docs/routes.mjs";
import { settingsOf, settingsText } from "./docs/settings.mjs";
import { sourceBlock } from "./docs/source.mjs";
import { prepare } from "./prepare.mjs";

const isCheck = process.argv.includes("--check");

await prepare();
const { buildProgram } = await import("#dist/cli/program.js");
const { examplesOf } = await import("#dist/cli/examples.js");
const { IMPORT_FAILURES } = await import("#dist/domain/import-failure.js");
const { DOCUMENTS } = await import("#dist/cli/documents/documents.js");
const { METRICS } = await import("#dist/domain/metrics.js");
const { configurationFile } = await import("#dist/config/config.js");

const { describeApi } = await import("#dist/http/describe-api.js");

const openApi = await describeApi();
const program = buildProgram(() => undefined);
const commands = commandsOf(program);
const settings = settingsOf(configurationFile);
const pages = pagePaths().map(readPage);
const shownCommands = new Set();
const shownSettings = new Set();

const stale = pages.flatMap(({ path, text }) => {
  const filled = fillRegions(text, contentOf).text;
  if (filled === text) return [];
  if (!isCheck) writeFileSync(join(ROOT, path), filled);
  return [path];
});
const schemas = [
  ...(await schemaFiles(DOCUMENTS)),
  await generatedFile("docs/openapi.json", openApi),
];
for (const { path, text, isStale } of schemas) {
  if (!isStale) continue;
  if (!isCheck) writeFileSync(join(ROOT, path), text);
  stale.push(path);
}
requireAllShown("command", [...commands.keys()], shownCommands);
requireAllShown("setting", [...settings.keys()], shownSettings);
const undescribed = [...settings.values()].filter(({ description }) => description === "");
for (const { name } of undescribed) {
  say(`The setting ${name} has no description: add one to its schema in src/config`);
  process.exitCode = 1;
}
if (isCheck && stale.length > 0) {
  say(`Not up to date: ${stale.join(", ")}. Run \`npm run docs\`, and commit what it changes.`);
  process.exitCode = 1;
} else {
  for (const path of stale) say(`${path} is written`);
}

/** @param {string} name */
function contentOf(name) {
  const [kind = "", ...rest] = name.split(" ");
  const subject = rest.join(" ");
  switch (kind) {
    case "command":
      return commandOf(subject, required(commands.get(subject), name));
    case "options":
      return globalOptions(program);
    case "settings":
      return settingsText(settings, rest, shownSettings);
    case "failures":
      return failureList(
        IMPORT_FAILURES,
        subject === "retried"
          ? ({ retryable }) => retryable
          : ({ retryable, exitCode }) => !retryable && exitCode === Number(subject),
      );
    case "metrics":
      return metricList(METRICS);
    case "routes":
      return routeList(openApi);
    case "decisions":
      return decisionIndex(pages.filter(({ path }) => /^docs\/decisions\/\d/.test(path)));
    case "source":
      return sourceBlock(subject);
    default:
      throw new Error(`Cannot generate "${name}": there is no such part`);
  }
}

/** @param {string} name @param {import("commander").Command} command */
function commandOf(name, command) {
  shownCommands.add(name);
  return commandText(name, command, examplesOf(command));
}

/**
 * @template Value
 * @param {Value | undefined} value
 * @param {string} name
 */
function required(value, name) {
  if (value === undefined) throw new Error(`Cannot generate "${name}": the program has none`);
  return value;
}

/** @param {string} kind @param {readonly string[]} names @param {ReadonlySet<string>} shown */
function requireAllShown(kind, names, shown) {
  const missing = names.filter((name) => !shown.has(name));
  if (missing.length === 0) return;
  say(`No page documents the ${kind} ${missing.join(", ")}: add its part to a page of docs/`);
  process.exitCode = 1;
}
