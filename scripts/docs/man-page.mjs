import { argumentsOf, sentence, shownDefault } from "./commands.mjs";

/** @typedef {import("commander").Command} Command */
/** @typedef {import("../../src/cli/example-lines.ts").Example} Example */

/**
 * The man page of a command, as roff.
 *
 * @param {string} name - such as `image create`; empty for the program
 * @param {Command} command
 * @param {object} context
 * @param {string} context.version
 * @param {readonly Example[]} context.examples
 * @param {string} [context.notes] - the last section
 * @param {ReadonlyMap<string, Command>} [context.commands] - listed on the page
 */
export function manPage(name, command, { version, examples, notes = "", commands = new Map() }) {
  const page = pageName(name);
  const options = command.options.filter(({ hidden }) => !hidden);
  const usage = name === "" ? "<command>" : argumentsOf(command);
  return [
    `.TH ${quoted(page.toUpperCase())} 1 "" ${quoted(`image-import ${version}`)} "User Commands"`,
    // No hyphens in names, and no gaps between words.
    ".nh",
    ".ad l",
    ...section("NAME", [`${escaped(page)} \\- ${escaped(command.description())}`]),
    ...section("SYNOPSIS", [
      `.B ${quoted(`image-import ${name}`.trim())}`,
      escaped(`${usage} [options]`.trim()),
    ]),
    ...section("DESCRIPTION", [
      escaped(`${sentence(command.description())}${aliasText(command)}`),
      ...(name === "" ? [] : [".PP", ...seeOptionsOfAll()]),
    ]),
    ...section("COMMANDS", [...commands].flatMap(commandEntry)),
    ...section("ARGUMENTS", command.registeredArguments.flatMap(argumentEntry)),
    ...section("OPTIONS", options.flatMap(optionEntry)),
    ...section("EXAMPLES", examples.flatMap(exampleEntry)),
    ...section("NOTES", paragraphs(notes)),
    ...section("SEE ALSO", name === "" ? [] : [reference("image-import")]),
    "",
  ].join("\n");
}

/**
 * The name of a page, such as `image-import-image-create`.
 *
 * @param {string} name - of the command
 */
export function pageName(name) {
  return `image-import ${name}`.trim().replaceAll(" ", "-");
}

/** @param {string} heading @param {readonly string[]} lines */
function section(heading, lines) {
  return lines.length === 0 ? [] : [`.SH ${quoted(heading)}`, ...lines];
}

/** @param {readonly [string, Command]} entry */
function commandEntry([name, command]) {
  return entry(`.BR ${escaped(pageName(name))} (1)`, sentence(command.description()));
}

/** @param {import("commander").Argument} argument */
function argumentEntry(argument) {
  const name = argument.variadic ? `${argument.name()}...` : argument.name();
  return entry(`.I ${quoted(name)}`, valueText(argument));
}

/** @param {import("commander").Option} option */
function optionEntry(option) {
  const required = option.mandatory ? "Required. " : "";
  return entry(`.B ${quoted(option.flags)}`, `${required}${valueText(option)}`);
}

/** @param {import("commander").Argument | import("commander").Option} value */
function valueText({ description, argChoices, defaultValue }) {
  const given = shownDefault(defaultValue);
  return [
    ...(description === "" ? [] : [sentence(description)]),
    ...(argChoices === undefined ? [] : [`One of ${argChoices.join(", ")}.`]),
    ...(given === undefined ? [] : [`Default: ${given}.`]),
  ].join(" ");
}

/** @param {Example} example */
function exampleEntry({ does, line }) {
  return [".PP", `${escaped(does)}:`, ".PP", ".RS 4", ".EX", escaped(line), ".EE", ".RE"];
}

/** @param {string} tag @param {string} text */
function entry(tag, text) {
  return [".TP", tag, ...(text === "" ? [] : [escaped(text)])];
}

/** @param {string} text */
function paragraphs(text) {
  const texts = text.split(/\n{2,}/).map((each) => each.trim());
  return texts.filter(Boolean).flatMap((each) => [".PP", ...each.split("\n").map(escaped)]);
}

function seeOptionsOfAll() {
  return ["The options of all commands are in", reference("image-import", ".")];
}

/** @param {string} page @param {string} [after] */
function reference(page, after = "") {
  return `.BR ${escaped(page)} (1)${after}`;
}

/** @param {Command} command */
function aliasText(command) {
  const aliases = command.aliases();
  return aliases.length === 0 ? "" : ` Short: ${aliases.join(", ")}.`;
}

/** @param {string} text */
function quoted(text) {
  return `"${escaped(text).replaceAll('"', "\\(dq")}"`;
}

/**
 * Text that roff prints as it is: a hyphen would become a dash that no shell takes, a quote a
 * typographic one, and a dot at the beginning of a line is a request.
 *
 * @param {string} text - one line
 */
function escaped(text) {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("'", "\\(aq")
    .replaceAll("`", "\\(ga")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti")
    .replace(/^\./, "\\&.");
}
