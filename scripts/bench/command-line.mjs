import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { PACKAGE_ROOT } from "../prepare.mjs";
import { inTurns, result, secondsOf } from "./measure.mjs";

const COMMAND_LINE = join(PACKAGE_ROOT, "dist/cli/main.js");

/**
 * Measurements of the time that a user waits for the program itself.
 *
 * @type {import("./cases.mjs").Case[]}
 */
export const COMMAND_LINE_CASES = [
  {
    name: "command-line",
    about:
      "`image-import --help` and `image list` without images, against a Node that does nothing",
    async run({ stack }, { isQuick, rounds }) {
      const dataDir = ["--data-dir", stack.directory.path];
      /** @type {[string, string[], number][]} */
      const commands = [
        ["--help", ["--help"], 2.5],
        ["image list", [...dataDir, "image", "list"], 5],
        ["status", [...dataDir, "status", NO_IMAGE], 8],
      ];
      const results = [];
      for (const [name, args, goal] of commands) {
        const times = await inTurns(
          rounds ?? (isQuick ? 5 : 15),
          () => secondsOfNode([COMMAND_LINE, ...args]),
          () => secondsOfNode(["--eval", ""]),
        );
        results.push(result(`image-import ${name}`, times, { goal }));
      }
      return results;
    },
  },
];

const NO_IMAGE = "00000000-0000-4000-8000-000000000000";

/** @param {string[]} args */
async function secondsOfNode(args) {
  const run = promisify(execFile);
  return secondsOf(() =>
    run(process.execPath, args).catch((/** @type {unknown} */ error) => {
      if (!isNotFound(error)) throw error;
    }),
  );
}

/** True for the failure of `status` without an import, which is expected. @param {unknown} error */
function isNotFound(error) {
  return error instanceof Error && "code" in error && error.code === 3;
}
