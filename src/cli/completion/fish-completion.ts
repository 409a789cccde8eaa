import {
  withAllBelow,
  type CompletedArgument,
  type CompletedCommand,
  type CompletedOption,
} from "./completed-command.ts";

/** The script for fish. */
export function fishCompletion(program: CompletedCommand): string {
  const commands = withAllBelow(program);
  return [
    "# Completion of image-import for fish: `image-import completion fish` prints it.",
    "",
    pathFunction(program, commands),
    "",
    "complete -c image-import -f",
    ...program.options.map((option) => optionLine(option, [])),
    ...commands.flatMap(linesOf),
    "",
  ].join("\n");
}

/** The function that finds the command before the cursor, and the number of its arguments. */
function pathFunction(program: CompletedCommand, commands: readonly CompletedCommand[]): string {
  const names = commands.flatMap(({ path, commands: below }) =>
    below.map((command) => {
      const patterns = command.names.map((name) => quoted(`${path} ${name}`));
      return `            case ${patterns.join(" ")}\n                set path ${quoted(command.path)}`;
    }),
  );
  const taking = [
    ...takingOf(program).map((flag) => quoted(`* ${flag}`)),
    ...commands
      .slice(1)
      .flatMap((command) => takingOf(command).map((flag) => quoted(`${command.path} ${flag}`))),
  ];
  return `# True if the cursor is at an argument, or at argument $argv[2], of command $argv[1].
function __image_import_at
    set -l path ''
    set -l count 0
    set -l skips 0
    for word in (commandline -opc)[2..-1]
        if test $skips = 1
            set skips 0
            continue
        end
        switch "$path $word"
${names.join("\n")}
            case ${taking.join(" ")}
                set skips 1
            case '* -*'
            case '*'
                set count (math $count + 1)
        end
    end
    test "$path" = "$argv[1]"; and test (count $argv) = 1 -o "$count" = "$argv[2]"
end`;
}

/** The flags that take a value. */
function takingOf({ options }: CompletedCommand): readonly string[] {
  return options.filter(({ values }) => values !== undefined).flatMap(({ flags }) => flags);
}

function linesOf({ path, commands, options, arguments: given }: CompletedCommand): string[] {
  const condition = ["-n", quoted(`__image_import_at ${quoted(path)}`)];
  return [
    ...commands.flatMap(({ names, description }) =>
      names.map((name) => complete(...condition, "-a", name, "-d", quoted(description))),
    ),
    ...(path === "" ? [] : options.map((option) => optionLine(option, condition))),
    ...given.flatMap((argument, index) => argumentLines(path, argument, index)),
  ];
}

function optionLine(
  { flags, description, values }: CompletedOption,
  condition: readonly string[],
): string {
  const names = flags.flatMap((flag) =>
    flag.startsWith("--") ? ["-l", flag.slice(2)] : ["-s", flag.slice(1)],
  );
  return complete(...condition, ...names, ...taking(values), "-d", quoted(description));
}

function taking(values: CompletedOption["values"]): readonly string[] {
  switch (values?.kind) {
    case undefined:
      return [];
    case "words":
      return ["-x", "-a", quoted(values.words.join(" "))];
    case "files":
      return ["-r", "-F"];
    case "directories":
      return ["-x", "-a", quoted("(__fish_complete_directories)")];
    case "any":
      return ["-x"];
  }
}

function argumentLines(
  path: string,
  { values, isVariadic }: CompletedArgument,
  index: number,
): string[] {
  if (values.kind === "any") return [];
  const at = `__image_import_at ${quoted(path)}${isVariadic ? "" : ` ${index}`}`;
  const [, ...offered] = taking(values);
  return [complete("-n", quoted(at), ...offered)];
}

function complete(...args: readonly string[]): string {
  return `complete -c image-import ${args.join(" ")}`;
}

/** The text as one word of fish. */
function quoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}
