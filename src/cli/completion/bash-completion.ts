import {
  withAllBelow,
  type CompletedCommand,
  type CompletedOption,
  type Values,
} from "./completed-command.ts";

// Bash 4.3 and later. It does not need the package bash-completion.
const MAIN = String.raw`
_image_import() {
  local IFS=$' \t\n' REPLY word command= option= prefix= current= ended= count=0
  local line=\${COMP_LINE:0:COMP_POINT}
  local -a words
  COMPREPLY=()
  # Not COMP_WORDS: those are broken at = and :, which are ordinary characters here.
  read -ra words <<<"$line"
  if [[ $line != *[[:space:]] ]]; then
    current=\${words[-1]}
    unset 'words[-1]'
  fi
  for word in "\${words[@]:1}"; do
    if [[ -n $option ]]; then
      option=
    elif [[ -n $ended ]]; then
      count=$((count + 1))
    elif [[ $word == -- ]]; then
      ended=1
    elif [[ $word == -?* ]]; then
      _image_import_values "$command" "$word"
      [[ -z $REPLY ]] || option=$word
    else
      _image_import_command "$command" "$word"
      if [[ -n $REPLY ]]; then command=$REPLY; else count=$((count + 1)); fi
    fi
  done
  if [[ -z $option && -z $ended && $current == --*=* ]]; then
    option=\${current%%=*}
    [[ $COMP_WORDBREAKS == *=* ]] || prefix=$option=
    current=\${current#*=}
  fi
  if [[ -n $option ]]; then
    _image_import_values "$command" "$option"
  elif [[ -z $ended && $current == -* ]]; then
    _image_import_options "$command"
  else
    _image_import_arguments "$command" "$count"
  fi
  case $REPLY in
    '<files>') compopt -o default ;;
    '<directories>') compopt -o dirnames ;;
    '<any>') ;;
    *) COMPREPLY=($(compgen -W "$REPLY" -P "$prefix" -- "$current")) ;;
  esac
  # Readline replaces only the part behind the last colon.
  if [[ $COMP_WORDBREAKS == *:* && $current == *:* ]]; then
    prefix=\${current%"\${current##*:}"}
    COMPREPLY=("\${COMPREPLY[@]#"$prefix"}")
  fi
}

complete -F _image_import image-import
`.replaceAll("\\${", "${");

/** The script for bash. */
export function bashCompletion(program: CompletedCommand): string {
  const commands = withAllBelow(program);
  return [
    "# Completion of image-import for bash: `image-import completion bash` prints it.",
    "",
    "# The command below command $1 that the word $2 names.",
    caseFunction("command", '"$1 $2"', commands.flatMap(namesBelow)),
    "",
    "# The values of option $2 of command $1; nothing if it takes none.",
    caseFunction("values", '"$1 $2"', [
      ...program.options.flatMap((option) => valuesOf("*", option)),
      ...commands
        .slice(1)
        .flatMap(({ path, options }) => options.flatMap((option) => valuesOf(`'${path}'`, option))),
    ]),
    "",
    "# The options of command $1.",
    caseFunction(
      "options",
      '"$1"',
      commands.map(({ path, options }) => {
        const own = path === "" ? options : [...options, ...globalOptions(program)];
        return [`'${path}'`, [...new Set(own.flatMap(({ flags }) => flags))].join(" ")];
      }),
    ),
    "",
    "# The values of argument $2, counted from 0, of command $1; or the commands below it.",
    caseFunction("arguments", '"$1 $2"', commands.flatMap(argumentsOf)),
    MAIN,
  ].join("\n");
}

/** The options that every command takes, without those of the program alone. */
function globalOptions({ options }: CompletedCommand): CompletedOption[] {
  return options.filter(({ flags }) => !flags.includes("--version"));
}

/** A pattern of bash, and the value to which a function sets REPLY for it. */
type Case = readonly [pattern: string, reply: string];

function caseFunction(name: string, subject: string, cases: readonly Case[]): string {
  const lines = [...new Set(cases.map(([, reply]) => reply))].map((reply) => {
    const same = cases.filter(([, each]) => each === reply);
    return `    ${same.map(([pattern]) => pattern).join(" | ")}) REPLY='${reply}' ;;`;
  });
  return [
    `_image_import_${name}() {`,
    `  case ${subject} in`,
    ...lines,
    "    *) REPLY= ;;",
    "  esac",
    "}",
  ].join("\n");
}

function namesBelow({ path, commands }: CompletedCommand): Case[] {
  return commands.flatMap((below) =>
    below.names.map((name): Case => [`'${path} ${name}'`, below.path]),
  );
}

function valuesOf(path: string, { flags, values }: CompletedOption): Case[] {
  if (values === undefined) return [];
  return flags.map((flag) => [`${path}' ${flag}'`, replyOf(values)]);
}

function argumentsOf({ path, commands, arguments: given }: CompletedCommand): Case[] {
  if (commands.length > 0) {
    return [[`'${path} 0'`, commands.flatMap(({ names }) => names).join(" ")]];
  }
  return given.map(({ values, isVariadic }, index) => [
    isVariadic ? `'${path} '*` : `'${path} ${index}'`,
    replyOf(values),
  ]);
}

function replyOf(values: Values): string {
  return values.kind === "words" ? values.words.join(" ") : `<${values.kind}>`;
}
