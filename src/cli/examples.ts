import type { Command } from "commander";
import { EXAMPLES, type Example } from "./example-lines.ts";

/** The name of a command without that of the program: `image list`, and empty for the program. */
export function pathOf(command: Command): string {
  const { parent } = command;
  return parent === null ? "" : `${pathOf(parent)} ${command.name()}`.trim();
}

/** The examples of a command; at least one if it has no commands below it. */
export function examplesOf(command: Command): readonly Example[] {
  return EXAMPLES[pathOf(command)] ?? [];
}

/** Shows the examples of each command in its `--help`. */
export function showExamples(command: Command): void {
  command.addHelpText("after", () => examplesText(examplesOf(command)));
  for (const each of command.commands) showExamples(each);
}

function examplesText(examples: readonly Example[]): string {
  if (examples.length === 0) return "";
  const shown = examples.map(({ does, line }) => `  # ${does}\n  ${line}`);
  return `\nExamples:\n${shown.join("\n")}`;
}
