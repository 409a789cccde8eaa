import { randomBytes, randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, inject, it } from "vitest";
import { pagePaths, readPage } from "../../scripts/docs/markdown.mjs";
import { craftedQcow2 } from "../support/crafted-images.ts";
import { MIB } from "../support/mib.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { BLOCKS_NOT_RUN } from "./blocks-not-run.ts";
import { commandsIn, firstMissing, runInOneShell } from "./shell-session.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples", import.meta.url));
const COMMAND_LINE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

// A stack of its own: pages look at everything that a stack has, such as all images and all stores.
const { dataDir } = useRunningStack({
  config: { stores: { local: {}, slow: { zero_copy: false, bandwidth_limit: "3MiB" } } },
});
const stack = new SharedStack(dataDir);

const pages = pagePaths().map((path) => {
  const blocks = readPage(path).blocks.filter(({ language }) => /^(console|sh)$/.test(language));
  const notRun = BLOCKS_NOT_RUN[path] ?? {};
  const firstLine = (text: string): string => text.split("\n", 1)[0] ?? "";
  return {
    path,
    run: blocks.filter(({ text }) => !(firstLine(text) in notRun)),
    unknown: Object.keys(notRun).filter((line) =>
      blocks.every(({ text }) => firstLine(text) !== line),
    ),
  };
});

/** A directory with the files that the pages name. */
function makeWorkDirectory(): string {
  const directory = join(makeTemporaryDirectory(), "work");
  mkdirSync(directory);
  writeFileSync(
    join(directory, "disk.raw"),
    Buffer.concat([randomBytes(8 * MIB), Buffer.alloc(56 * MIB)]),
  );
  writeFileSync(join(directory, "disk.qcow2"), craftedQcow2());
  symlinkSync(EXAMPLES, join(directory, "examples"));
  return directory;
}

/** A directory of programs with the names that a reader of the pages has. */
function makePrograms(): string {
  const directory = makeTemporaryDirectory();
  const commandLine = `exec ${process.execPath} ${COMMAND_LINE}`;
  writeProgram(join(directory, "image-import"), `${commandLine} "$@"`);
  writeProgram(
    join(directory, "npx"),
    `test "$1" = image-import || exit 127\nshift\n${commandLine} "$@"`,
  );
  writeProgram(join(directory, "temporal"), `exec ${inject("temporalCli")} "$@"`);
  return directory;
}

function writeProgram(path: string, script: string): void {
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}

/** Variables that a page takes from what the reader did before. */
async function variablesOf(path: string): Promise<NodeJS.ProcessEnv> {
  // A plain start needs an upload; other pages name an image that is there.
  const isOfPlainStart = path === "docs/programs-and-other-languages.md";
  return { ID: isOfPlainStart ? await stack.stagedImage() : await stack.activeImage() };
}

describe("blocks of commands", () => {
  it.each(pages.filter(({ run }) => run.length > 0))(
    "of $path do what the page says",
    {
      timeout: 180_000,
    },
    async ({ path, run }) => {
      const env = {
        HOME: process.env["HOME"],
        PATH: `${makePrograms()}:${dirname(process.execPath)}:${process.env["PATH"] ?? ""}`,
        IMAGE_IMPORT_DATA_DIR: stack.dataDir,
        ...(await variablesOf(path)),
      };

      const ran = await runInOneShell(run.flatMap(commandsIn), {
        directory: makeWorkDirectory(),
        env,
      });

      const wrong = ran.flatMap((each) => {
        const missing = firstMissing(each);
        if (each.exitCode === 0 && missing === undefined) return [];
        return [{ ...each, missing }];
      });
      expect(wrong).toEqual([]);
    },
  );

  it("are run, or are in the list of those that are not", () => {
    expect(pages.flatMap(({ path, unknown }) => unknown.map((line) => `${path}: ${line}`))).toEqual(
      [],
    );
    expect(Object.keys(BLOCKS_NOT_RUN).filter((path) => !pagePaths().includes(path))).toEqual([]);
  });
});

describe("firstMissing()", () => {
  const ran = (expected: readonly string[], output: string) =>
    firstMissing({ command: "", line: 1, exitCode: 0, expected, output });

  it("finds a line that was not printed, in its place", () => {
    expect(ran(["status active"], "status failed\n")).toBe("status active");
    expect(ran(["a", "b"], "a\nx\nb\n")).toBe("b");
    expect(ran(["a", "…", "b"], "a\nx\nb\n")).toBeUndefined();
    expect(ran(["a"], "a\nb\n")).toContain('it printed "b"');
  });

  it("takes any id, time and width of columns", () => {
    expect(
      ran([`id   ${randomUUID()}`, "storing 3 ms"], `id ${randomUUID()}\nstoring  1.2 s\n`),
    ).toBe(undefined);
  });
});
