import { wrapped } from "./regions.mjs";

/** @typedef {import("commander").Command} Command */
/** @typedef {import("../../src/cli/example-lines.ts").Example} Example */

/**
 * All commands that a user can run, by their names, such as `image member add`.
 *
 * @param {Command} program
 * @returns {Map<string, Command>}
 */
export function commandsOf(program) {
  return new Map(program.commands.flatMap((command) => [...commandsAt(command, command.name())]));
}

/** @param {Command} command @param {string} name @returns {[string, Command][]} */
function commandsAt(command, name) {
  if (command.commands.length === 0) return [[name, command]];
  return command.commands.flatMap((each) => commandsAt(each, `${name} ${each.name()}`));
}

/**
 * A command's usage, description, options and examples, as Markdown.
 *
 * @param {string} name - such as `image create`
 * @param {Command} command
 * @param {readonly Example[]} [examples]
 */
export function commandText(name, command, examples = []) {
  const usage = `image-import ${name} ${argumentsOf(command)}`.trim();
  const options = command.options.filter((option) => !option.hidden).map(optionText);
  return [
    `### \`${usage}\``,
    "",
    wrapped(`${sentence(command.description())}${aliasText(command)}`),
    ...(options.length === 0 ? [] : ["", ...options]),
    ...(examples.length === 0 ? [] : ["", ...exampleBlock(examples)]),
  ].join("\n");
}

/** @param {readonly Example[]} examples */
function exampleBlock(examples) {
  const lines = examples.flatMap(({ does, line }) => [`# ${does}`, ...shellLines(line)]);
  // Not run by the tests of the pages, but parsed by those of the examples.
  return ["```text", ...lines, "```"];
}

/**
 * A line of a shell, broken before an option where it does not fit a page.
 *
 * @param {string} line
 */
function shellLines(line) {
  const [first = "", ...options] = line.split(/ (?=--)/);
  /** @type {string[]} */
  const lines = [];
  let last = first;
  for (const option of options) {
    const longer = `${last} ${option}`;
    if (longer.length > 98) lines.push(`${last} \\`);
    last = longer.length > 98 ? `    ${option}` : longer;
  }
  return [...lines, last];
}

/** @param {Command} command */
function aliasText(command) {
  const aliases = command.aliases().map((alias) => `\`${alias}\``);
  return aliases.length === 0 ? "" : ` Short: ${aliases.join(", ")}.`;
}

/**
 * The arguments of a command, as its usage has them.
 *
 * @param {Command} command
 */
export function argumentsOf(command) {
  return command.registeredArguments
    .map((argument) => {
      const name = `${argument.name()}${argument.variadic ? "..." : ""}`;
      return argument.required ? `<${name}>` : `[${name}]`;
    })
    .join(" ");
}

/**
 * The options that every command has.
 *
 * @param {Command} program
 */
export function globalOptions(program) {
  return program.options.map(optionText).join("\n");
}

/** @param {import("commander").Option} option */
function optionText(option) {
  const given = shownDefault(option.defaultValue);
  const choices = option.argChoices?.map((choice) => `\`${choice}\``).join(", ");
  const text = [
    `\`${option.flags}\`${option.mandatory ? " (required)" : ""}: ${option.description}`,
    ...(choices === undefined ? [] : [`One of ${choices}`]),
    ...(given === undefined ? [] : [`Default: \`${given}\``]),
  ].join(". ");
  return wrapped(text, { first: "- ", rest: "  " });
}

/**
 * The text of a default, if it is one that helps a user.
 *
 * @param {unknown} value
 */
export function shownDefault(value) {
  return typeof value === "number" || typeof value === "string" ? String(value) : undefined;
}

/**
 * A text with a capital letter and a full stop.
 *
 * @param {string} text
 */
export function sentence(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
}
