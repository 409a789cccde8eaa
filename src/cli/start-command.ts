import type { Expectation, StoreChoice, TransformChoice } from "./arguments.ts";
import { shellQuoted } from "./shell-quoted.ts";

/** The options that `import` and `start` have in common, and the need to detect the format. */
interface StartChoice extends StoreChoice, Expectation, TransformChoice {
  readonly detectFormat: boolean;
}

/** The command that starts the import of an upload again, with the options that `import` had. */
export function startCommand(imageId: string, choice: StartChoice): string {
  const { detectFormat, store, allStores, allStoresMustSucceed } = choice;
  const { checksum, size, role, transform } = choice;
  const each = (option: string, values: readonly string[] | false | undefined): string[] =>
    (values === false ? [] : (values ?? [])).flatMap((value) => [option, word(value)]);
  return [
    "image-import start",
    imageId,
    ...(detectFormat ? ["--detect-format"] : []),
    ...each("--store", store),
    ...(allStores === true ? ["--all-stores"] : []),
    ...(allStoresMustSucceed ? [] : ["--no-all-stores-must-succeed"]),
    ...each("--checksum", checksum === undefined ? [] : [checksum]),
    ...each("--size", size === undefined ? [] : [String(size)]),
    ...each("--role", role),
    ...(transform === false ? ["--no-transform"] : each("--transform", transform)),
  ].join(" ");
}

/** A word of a command line, quoted where a shell would read it as something else. */
function word(value: string): string {
  return /^[\w.:/@%+=,-]+$/.test(value) ? value : shellQuoted(value);
}
