import {
  withAllBelow,
  type CompletedArgument,
  type CompletedCommand,
  type CompletedOption,
  type Values,
} from "./completed-command.ts";
import { shellQuoted } from "../shell-quoted.ts";

const END = `
# A file of $fpath is called as the function; otherwise it is read by a shell that starts.
if [[ $funcstack[1] == _image-import ]]; then
  _image-import "$@"
else
  compdef _image-import image-import
fi
`;

/** The script for zsh. */
export function zshCompletion(program: CompletedCommand): string {
  const globals = program.options.filter(({ flags }) => !/^-[Vh]$/.test(flags[0] ?? ""));
  return [
    "#compdef image-import",
    "# Completion of image-import for zsh: `image-import completion zsh` prints it.",
    ...withAllBelow(program).map((command) => {
      const options = command === program ? command.options : [...command.options, ...globals];
      return command.commands.length === 0 ? leaf(command, options) : group(command, options);
    }),
    END,
  ].join("\n");
}

function leaf(
  { path, arguments: given }: CompletedCommand,
  options: readonly CompletedOption[],
): string {
  const specs = [...options.flatMap(optionSpecs), ...given.map(argumentSpec)];
  return `
${functionOf(path)}() {
  _arguments -S : \\
    ${specs.join(" \\\n    ")}
}`;
}

function group({ path, commands }: CompletedCommand, options: readonly CompletedOption[]): string {
  const name = functionOf(path);
  const named = commands.flatMap((command) =>
    command.names.map((each) => shellQuoted(`${each}:${command.description}`)),
  );
  const cases = commands.map(
    (command) => `    (${command.names.join("|")}) ${functionOf(command.path)} ;;`,
  );
  return `
${name}() {
  local curcontext=$curcontext state
  local -a line commands=(
    ${named.join("\n    ")}
  )
  local -A opt_args
  _arguments -C : \\
    ${options.flatMap(optionSpecs).join(" \\\n    ")} \\
    '1: :->command' \\
    '*:: :->below'
  case $state in
    (command) _describe command commands; return ;;
    (below) ;;
    (*) return ;;
  esac
  case $line[1] in
${cases.join("\n")}
  esac
}`;
}

function functionOf(path: string): string {
  return `_image-import${path === "" ? "" : `_${path.replaceAll(" ", "_")}`}`;
}

function optionSpecs({ flags, description, values }: CompletedOption): string[] {
  const about = `[${description.replace(/[[\]\\:]/g, "\\$&")}]`;
  if (values === undefined) {
    const others = flags.length > 1 ? `(${flags.join(" ")})` : "";
    return flags.map((flag) => shellQuoted(`${others}${flag}${about}`));
  }
  return flags.map((flag) => {
    const taking = flag.startsWith("--") ? `${flag}=` : `${flag}+`;
    return shellQuoted(`*${taking}${about}:value:${action(values)}`);
  });
}

function argumentSpec({ name, values, isVariadic }: CompletedArgument): string {
  return shellQuoted(`${isVariadic ? "*" : ""}:${name}:${action(values)}`);
}

function action(values: Values): string {
  switch (values.kind) {
    case "words":
      return `(${values.words.map((word) => word.replaceAll(":", "\\:")).join(" ")})`;
    case "files":
      return "_files";
    case "directories":
      return "_files -/";
    case "any":
      return " ";
  }
}
