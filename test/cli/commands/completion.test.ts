import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CommandLine } from "../../support/command-line.ts";
import { InteractiveShell, SHELL_SETTINGS } from "../../support/interactive-shell.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";

const commandLine = new CommandLine({});
const ZSH = process.env["ZSH_PROGRAM"] ?? "zsh";
const FISH = process.env["FISH_PROGRAM"] ?? "fish";

type Completions = (line: string) => Promise<string[]>;

/** A directory with two files, a directory, and the script of a shell. */
async function makeDirectory(shell: "bash" | "zsh" | "fish"): Promise<string> {
  const directory = makeTemporaryDirectory();
  for (const name of ["disk.qcow2", "disk.raw"]) writeFileSync(join(directory, name), "");
  mkdirSync(join(directory, "disks"));
  const { exitCode, stdout, stderr } = await commandLine.run("completion", shell);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  writeFileSync(join(directory, "script"), stdout);
  return directory;
}

async function interactive(shell: "bash" | "zsh"): Promise<Completions> {
  const directory = await makeDirectory(shell);
  const settings = join(makeTemporaryDirectory(), ".zshrc");
  writeFileSync(settings, `${SHELL_SETTINGS[shell]}source ./script\n`);
  const command = shell === "bash" ? `bash --noprofile --rcfile ${settings} -i` : `${ZSH} -d -i`;
  const env = { ZDOTDIR: join(settings, "..") };
  const opened = new InteractiveShell(command, { directory, env });
  return async (line) => {
    const typed = line.split(" ").length - 2;
    return (await opened.completed(line)).slice(typed);
  };
}

async function fish(): Promise<Completions> {
  const directory = await makeDirectory("fish");
  return async (line) => {
    const script = `source ./script; complete -C '${line}'`;
    const options = { cwd: directory, encoding: "utf8" } as const;
    const output = execFileSync(FISH, ["--no-config", "-c", script], options);
    return output
      .split("\n")
      .filter(Boolean)
      .map((candidate) => candidate.split("\t")[0] ?? "");
  };
}

const OFFERED: Readonly<Record<string, readonly string[]>> = {
  "image-import im": ["image", "import"],
  "image-import image l": ["list", "ls"],
  "image-import image list --so": ["--sort"],
  "image-import task ls --qui": ["--quiet"],
  "image-import image list --format ": ["csv", "json", "jsonl", "table", "yaml"],
  "image-import image ls -f j": ["json", "jsonl"],
  "image-import import disk.raw --disk-format q": ["qcow2"],
  "image-import task list --status ": ["failure", "pending", "processing", "success"],
  "image-import --config image image list --sort created_at:d": ["created_at:desc"],
  "image-import image list --column s": ["size", "status", "stores"],
  "image-import worker --log-level ": ["debug", "error", "info", "trace", "warn"],
  "image-import completion ": ["bash", "fish", "zsh"],
  // Files, where one is meant.
  "image-import import disk.": ["disk.qcow2", "disk.raw"],
  "image-import import disk.raw disk.": ["disk.qcow2", "disk.raw"],
  "image-import inspect disk.q": ["disk.qcow2"],
  "image-import image stage debian disk.": ["disk.qcow2", "disk.raw"],
  "image-import image download debian -o disk.": ["disk.qcow2", "disk.raw"],
  "image-import --config disk.": ["disk.qcow2", "disk.raw"],
  "image-import --data-dir d": ["disks"],
  // Only the service knows what images there are.
  "image-import image show ": [],
  "image-import image list --owner ": [],
};

describe("completion", () => {
  it.each([
    ["bash", async () => interactive("bash")],
    ["zsh", async () => interactive("zsh")],
    ["fish", fish],
  ] as const)("completes commands, options, values and files in %s", async (_, open) => {
    const completions = await open();

    const offered: Record<string, string[]> = {};
    for (const line of Object.keys(OFFERED)) {
      offered[line] = (await completions(line)).map((word) => word.replace(/\/$/, "")).sort();
    }

    expect(offered).toEqual(OFFERED);
  });

  it("completes a value behind = in bash", async () => {
    const completions = await interactive("bash");

    expect(await completions("image-import image list --sort=created_at:d")).toEqual([
      "--sort=created_at:desc",
    ]);
  });

  it("completes a file whose name has spaces in bash", async () => {
    const directory = await makeDirectory("bash");
    const settings = join(makeTemporaryDirectory(), "bashrc");
    writeFileSync(settings, `${SHELL_SETTINGS.bash}source ./script\n`);
    writeFileSync(join(directory, "my disk.raw"), "");
    const shell = new InteractiveShell(`bash --noprofile --rcfile ${settings} -i`, {
      directory,
      env: {},
    });

    expect(await shell.completed("image-import inspect my")).toEqual(["inspect", "my disk.raw"]);
  });

  it("answers with a document with --json", async () => {
    const { answer, exitCode } = await commandLine.json("completion", "zsh");

    expect({ answer, exitCode }).toEqual({
      answer: {
        shell: "zsh",
        script: expect.stringMatching(/^#compdef image-import\n/) as unknown,
      },
      exitCode: 0,
    });
  });

  it("refuses a shell that it does not support", async () => {
    expect(await commandLine.json("completion", "tcsh")).toMatchObject({
      exitCode: 2,
      failure: { code: "BadUsage" },
    });
  });
});
