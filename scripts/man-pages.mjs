// Writes man/ from the commands of the program, for the package: `npm pack` runs it.
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commandsOf } from "./docs/commands.mjs";
import { manPage, pageName } from "./docs/man-page.mjs";
import { PACKAGE_ROOT, prepare } from "./prepare.mjs";

await prepare();
const { buildProgram, EPILOGUE } = await import("#dist/cli/program.js");
const { examplesOf } = await import("#dist/cli/examples.js");

const program = buildProgram(() => undefined);
const version = program.version() ?? "";
const commands = commandsOf(program);
const directory = join(PACKAGE_ROOT, "man");
rmSync(directory, { recursive: true, force: true });
mkdirSync(directory);
write("", program, { notes: EPILOGUE, commands });
for (const [name, command] of commands) write(name, command);

/**
 * @param {string} name
 * @param {import("commander").Command} command
 * @param {Partial<Parameters<typeof manPage>[2]>} [more]
 */
function write(name, command, more = {}) {
  const text = manPage(name, command, { version, examples: examplesOf(command), ...more });
  writeFileSync(join(directory, `${pageName(name)}.1`), text);
}
