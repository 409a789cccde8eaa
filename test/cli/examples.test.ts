import { spawnSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { EXAMPLES } from "../../src/cli/example-lines.ts";
import { examplesOf, pathOf } from "../../src/cli/examples.ts";
import { buildProgram } from "../../src/cli/program.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

function leavesOf(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf);
}

function everyCommandOf(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommandOf)];
}

/** The name of the command that the program would run with these arguments. */
async function commandRunBy(args: readonly string[]): Promise<string> {
  const program = buildProgram(() => undefined);
  let ran = "none";
  for (const leaf of leavesOf(program)) {
    leaf.action(() => {
      ran = pathOf(leaf);
    });
  }
  await program.parseAsync(args, { from: "user" });
  return ran;
}

/** The arguments with which a shell runs the program. */
function argumentsIn(line: string): string[] {
  const directory = makeTemporaryDirectory();
  const program = join(directory, "image-import");
  writeFileSync(program, '#!/bin/sh\nprintf "%s\\0" "$@" > arguments\n');
  chmodSync(program, 0o755);
  for (const name of ["debian.qcow2", "fedora.qcow2"]) writeFileSync(join(directory, name), "");
  const { status, stderr } = spawnSync("sh", ["-ec", line], {
    cwd: directory,
    env: { ...process.env, PATH: `${directory}:${process.env["PATH"] ?? ""}` },
    encoding: "utf8",
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  return readFileSync(join(directory, "arguments"), "utf8").split("\0").slice(0, -1);
}

const program = buildProgram(() => undefined);
const commands = everyCommandOf(program);
const lines = commands.flatMap((command) =>
  examplesOf(command).map(({ line }) => ({ path: pathOf(command), line })),
);

describe("examplesOf()", () => {
  it("has examples of every command", () => {
    const without = commands.filter((command) => examplesOf(command).length === 0);

    expect(without.map(pathOf)).toEqual([]);
  });

  it("has examples of commands that exist only", () => {
    expect(Object.keys(EXAMPLES).sort()).toEqual(commands.map(pathOf).sort());
  });

  it.each(lines)(
    "has an example of $path that the program takes: $line",
    async ({ path, line }) => {
      const ran = await commandRunBy(argumentsIn(line));

      expect(leavesOf(program).map(pathOf)).toContain(ran);
      expect(`${ran} `.startsWith(path === "" ? "" : `${path} `)).toBe(true);
    },
  );
});

describe("showExamples()", () => {
  it.each(commands.map((command) => [pathOf(command)]))("shows them in the help of %s", (path) => {
    let shown = "";
    const writing = buildProgram((text) => {
      shown += text;
    });

    expect(() =>
      writing.parse([...path.split(" "), "--help"].filter(Boolean), { from: "user" }),
    ).toThrow("(outputHelp)");

    for (const { does, line } of EXAMPLES[path] ?? []) {
      expect(shown).toContain(`\n  # ${does}\n  ${line}\n`);
    }
  });
});
