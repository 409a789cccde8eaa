import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CommandLine } from "../support/command-line.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

// These tests run a process and check its output and its exit code.
const commandLine = new CommandLine({});

/** A command line without a stack: wrong use must be refused without one. */
function nowhere(): CommandLine {
  return new CommandLine({ dataDir: join(makeTemporaryDirectory(), "none") });
}

const { version } = JSON.parse(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
) as { readonly version: string };

describe("runCommandLine() that is asked about itself", () => {
  it("prints the version", async () => {
    expect(await commandLine.run("--version")).toEqual({
      exitCode: 0,
      stdout: `${version}\n`,
      stderr: "",
    });
  });

  it("prints the version as a document with --json", async () => {
    expect(await commandLine.json("--version")).toEqual({
      exitCode: 0,
      answer: { version },
      failure: undefined,
    });
  });

  it("lists the commands and the exit codes", async () => {
    const { exitCode, stdout, stderr } = await commandLine.run("--help");

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/^Usage: image-import \[options\] \[command\]$/m);
    expect(stdout).toMatch(/^ {2}import \[options\] <file-or-url\.{3}> +import disk images: /m);
    expect(stdout).toContain(
      "Exit codes: 0 done (also detached), 1 failed or cancelled, 2 wrong use, 3 not found, 4 conflict,\n5 requested, and no worker has answered yet, 6 left before the end: the import continues.",
    );
  });

  it("explains one command, and the settings that all take", async () => {
    const { exitCode, stdout, stderr } = await commandLine.run("import", "--help");

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/^Usage: image-import import \[options\] <file-or-url\.{3}>$/m);
    expect(stdout).toMatch(/^ {2}--detach +return once the import is accepted$/m);
    expect(stdout).toMatch(/^ {2}--json +answer with one JSON document on stdout/m);
  });

  it("prints its help as a document with --json", async () => {
    const { exitCode, answer, failure } = await commandLine.json("pause", "--help");

    expect({ exitCode, failure }).toEqual({ exitCode: 0, failure: undefined });
    expect(answer).toEqual({
      help: expect.stringMatching(/^Usage: image-import pause/) as unknown,
    });
  });
});

describe("runCommandLine() that is used wrongly", () => {
  const USE = "Run `image-import --help`: it lists the commands.";
  const ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
  const CHOOSE_COMMAND =
    "Run `image-import --help`: it lists the commands. `image-import COMMAND --help` explains one.";

  it.each([
    ["no command", [], "no command is named", CHOOSE_COMMAND],
    ["no command of a group", ["image"], "no command is named", CHOOSE_COMMAND],
    ["an unknown command", ["frobnicate"], "unknown command 'frobnicate'", USE],
    [
      "a mistyped command",
      ["imprt", "disk.raw"],
      "unknown command 'imprt'\n(Did you mean import?)",
      USE,
    ],
    ["an unknown option", ["stores", "--frobnicate"], "unknown option '--frobnicate'", USE],
    ["a missing argument", ["import"], "missing required argument 'file-or-url'", USE],
    [
      "bytes and a document on one stream",
      ["image", "download", ID],
      "standard output cannot take both the bytes and the document of --json",
      "Name a file: `--output FILE`.",
    ],
  ])("refuses %s", async (_, args, message, hint) => {
    const result = await nowhere().json(...args);

    expect(result).toEqual({
      exitCode: 2,
      answer: undefined,
      failure: { code: "BadUsage", message, hint },
    });
  });

  it("shows people what is wrong, and the way out", async () => {
    const result = await commandLine.run("frobnicate");

    expect(result).toEqual({
      exitCode: 2,
      stdout: "",
      stderr:
        "error: unknown command 'frobnicate'\nhint: Run `image-import --help`: it lists the commands.\n",
    });
  });

  it("takes --json for an argument behind --", async () => {
    const result = await nowhere().run("import", "--", "--json");

    expect(result.stderr).toMatch(/^error: /);
  });
});

describe("runCommandLine() where nothing runs and nothing is configured", () => {
  const START = "Start a stack with `image-import dev`, or set the named variable.";
  const NO_CONFIG =
    "Cannot find the configuration file with staging area and stores: no stack is running here, and IMAGE_IMPORT_CONFIG is not set";
  const NO_CATALOGUE =
    "Cannot find the catalogue: no stack is running here, and DATABASE_URL is not set";

  it.each([
    [["import", "disk.raw"], NO_CONFIG],
    [["stores"], NO_CONFIG],
    [["worker"], NO_CONFIG],
    [["image", "list"], NO_CATALOGUE],
    [["task", "list"], NO_CATALOGUE],
    [["migrate"], NO_CATALOGUE],
  ])("rejects %j with the missing setting and the way out", async (args, message) => {
    const result = await nowhere().json(...args);

    expect(result).toEqual({
      exitCode: 2,
      answer: undefined,
      failure: { code: "NotConfigured", message, hint: START },
    });
  });
});
