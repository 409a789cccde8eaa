import type { Argument, Command, Option } from "commander";
import { pathOf } from "../examples.ts";

/** The values that a shell offers for an option or an argument. */
export type Values =
  | { readonly kind: "words"; readonly words: readonly string[] }
  /** `any`: nothing that a shell could know, such as the name of an image. */
  | { readonly kind: "files" | "directories" | "any" };

/** An option, as a shell completes it. */
export interface CompletedOption {
  /** Such as `-c` and `--column`. */
  readonly flags: readonly string[];
  readonly description: string;
  /** Undefined if it takes no value. */
  readonly values: Values | undefined;
}

/** An argument, as a shell completes it. */
export interface CompletedArgument {
  readonly name: string;
  readonly values: Values;
  readonly isVariadic: boolean;
}

/** A command, as a shell completes it. */
export interface CompletedCommand {
  /** Such as `image list`; empty for the program. */
  readonly path: string;
  /** Its name and its aliases. */
  readonly names: readonly string[];
  readonly description: string;
  readonly commands: readonly CompletedCommand[];
  /** Without the options of the program. */
  readonly options: readonly CompletedOption[];
  readonly arguments: readonly CompletedArgument[];
}

/** A command and all below it, as a shell completes them. */
export function completedCommand(command: Command): CompletedCommand {
  const options = command.options.filter(({ hidden }) => !hidden);
  return {
    path: pathOf(command),
    names: [command.name(), ...command.aliases()],
    description: brief(command.description()),
    commands: command.commands.map(completedCommand),
    options: [
      ...options.map(completedOption),
      { flags: ["-h", "--help"], description: "display help", values: undefined },
    ],
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      values: valuesOf(argument, argument.name()),
      isVariadic: argument.variadic,
    })),
  };
}

/** A command and all below it, in one list. */
export function withAllBelow(command: CompletedCommand): CompletedCommand[] {
  return [command, ...command.commands.flatMap(withAllBelow)];
}

function completedOption(option: Option): CompletedOption {
  const [, placeholder] = /[<[](.+?)(?:\.\.\.)?[>\]]/.exec(option.flags) ?? [];
  return {
    flags: [option.short, option.long].filter((flag) => flag !== undefined),
    description: brief(option.description),
    values: placeholder === undefined ? undefined : valuesOf(option, placeholder),
  };
}

/** The values of an option or an argument, by its choices or its name in the usage. */
function valuesOf({ argChoices }: Argument | Option, placeholder: string): Values {
  if (argChoices !== undefined) return { kind: "words", words: argChoices };
  if (/^file\b/.test(placeholder)) return { kind: "files" };
  return { kind: placeholder === "dir" ? "directories" : "any" };
}

/** The part of a description for which a list of a shell has room: that before the first `; `. */
function brief(description: string): string {
  return description.split("; ", 1)[0] ?? "";
}
