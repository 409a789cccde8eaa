import { join } from "node:path";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { shownFailure, type ShownFailure } from "../../src/cli/failure.ts";
import { buildProgram } from "../../src/cli/program.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

/** The arguments and options of each command, by its name. */
function usageOf(command: Command, names: readonly string[] = []): Record<string, string> {
  if (command.commands.length > 0) {
    const below = command.commands.map((each) => usageOf(each, [...names, each.name()]));
    return Object.assign({}, ...below) as Record<string, string>;
  }
  const given = command.registeredArguments.map((argument) => {
    const name = `${argument.name()}${argument.variadic ? "..." : ""}`;
    return argument.required ? `<${name}>` : `[${name}]`;
  });
  const options = command.options.map((option) => option.flags.replace(/ [<[].*/, " …"));
  return { [names.join(" ")]: [...given, ...options].join(" ") };
}

describe("buildProgram()", () => {
  it("has the commands that are kept stable, with their options", () => {
    const program = buildProgram(() => undefined);

    const usage = usageOf(program);

    expect(usage).toEqual({
      import:
        "<file-or-url...> --name … --disk-format … --container-format … --id … --owner … --detach --keep --parallel … --json-lines --accept-timeout … --checksum … --size … --role … --transform … --no-transform --store … --all-stores --no-all-stores-must-succeed",
      inspect: "<file>",
      "image create":
        "--name … --disk-format … --container-format … --id … --owner … --property … --tag … --visibility … --public --community --shared --private --protected --unprotected --hidden --unhidden --min-disk … --min-ram …",
      "image set":
        "<image> --name … --owner … --disk-format … --container-format … --property … --remove-property … --tag … --remove-tag … --visibility … --public --community --shared --private --protected --unprotected --hidden --unhidden --min-disk … --min-ram …",
      "image member list": "<image>",
      "image member add": "<image> <project>",
      "image member set": "<image> <project> --status …",
      "image member remove": "<image> <project>",
      "image stage": "<image> [file] --adopt --uri … --replace",
      "image unstage": "<image>",
      "image start":
        "<image> --method … --uri … --detect-format --wait --accept-timeout … --checksum … --size … --role … --transform … --no-transform --store … --all-stores --no-all-stores-must-succeed",
      "image copy":
        "<image> --detach --accept-timeout … --store … --all-stores --no-all-stores-must-succeed",
      "image show": "<image>",
      "image list":
        "--status … --owner … --name … --disk-format … --container-format … --store … --tag … --property … --size-min … --size-max … --checksum … --os-hash-value … --time … --min-disk-min … --min-disk-max … --min-ram-min … --min-ram-max … --visibility … --public --community --shared --private --protected --unprotected --hidden --unhidden --min-disk … --min-ram … --created-after … --created-before … --updated-after … --updated-before … --sort … --limit … --marker … -c, --column … -f, --format …",
      "image deactivate": "<image>",
      "image reactivate": "<image>",
      "image delete": "<image...>",
      "image remove-copy": "<image> --store … --wait",
      "image download": "<image> -o, --output …",
      "image verify": "[image...] --all",
      start:
        "<image> --method … --uri … --detect-format --wait --accept-timeout … --checksum … --size … --role … --transform … --no-transform --store … --all-stores --no-all-stores-must-succeed",
      status: "<image...> --watch --json-lines",
      watch: "[image] --json-lines",
      pause: "<image...>",
      resume: "<image...>",
      "drop-store": "<image> --store …",
      cancel: "<image...> --wait",
      "task list":
        "--image … --status … --owner … --created-after … --created-before … --updated-after … --updated-before … --sort … --limit … --marker … -c, --column … -f, --format …",
      "task show": "<task>",
      usage: "--owner …",
      api: "--host … --port … --log-level …",
      token: "--user … --project … --role …",
      "image history": "<image>",
      reconcile: "--dry-run --timeout …",
      worker: "--log-level … --health-port … --metrics-port …",
      migrate: "",
      stores: "--check --adopt …",
      doctor: "",
      completion: "<shell>",
      dev: "",
      env: "",
    });
  });

  it("takes the settings of all commands", () => {
    const program = buildProgram(() => undefined);

    const options = program.options.map(({ long }) => long);

    expect(options).toEqual([
      ...["--version", "--json", "--quiet", "--no-progress", "--verbose"],
      ...["--data-dir", "--config", "--api", "--api-token"],
    ]);
  });

  it("gives every command a description", () => {
    const withoutDescription = (command: Command): string[] => [
      ...(command.description() === "" ? [command.name()] : []),
      ...command.commands.flatMap(withoutDescription),
    ];

    expect(withoutDescription(buildProgram(() => undefined))).toEqual([]);
  });
});

/** The refusal of these arguments, without a stack. */
async function refusalOf(...args: readonly string[]): Promise<ShownFailure> {
  const nowhere = join(makeTemporaryDirectory(), "none");
  const program = buildProgram(() => undefined);
  try {
    await program.parseAsync([...args, "--data-dir", nowhere], { from: "user" });
  } catch (error) {
    return shownFailure(error);
  }
  throw new Error("It was not refused");
}

const ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

describe("buildProgram() that is used wrongly", () => {
  const USE = "Run `image-import --help`: it lists the commands.";

  it.each([
    ["an unknown command of a group", ["task", "drop"], "unknown command 'drop'", USE],
    [
      "a missing value",
      ["import", "disk.raw", "--store"],
      "option '--store <name>' argument missing",
      USE,
    ],
    [
      "too many arguments",
      ["watch", ID, "now"],
      "too many arguments for 'watch'. Expected 1 argument but got 2.",
      USE,
    ],
    [
      "an unknown disk format",
      ["import", "disk.raw", "--disk-format", "qed"],
      "option '--disk-format <format>' argument 'qed' is invalid. Allowed choices are ami, ari, aki, vhd, vhdx, vmdk, raw, qcow2, vdi, iso, ploop.",
      USE,
    ],
    [
      "an unknown container format",
      ["image", "create", "--container-format", "zip"],
      "option '--container-format <format>' argument 'zip' is invalid. Allowed choices are ami, ari, aki, bare, ovf, ova, docker, compressed.",
      USE,
    ],
    [
      "a status that does not exist",
      ["image", "list", "--status", "lost"],
      "option '--status <status>' argument 'lost' is invalid. Allowed choices are queued, uploading, importing, saving, active, deactivated, pending_delete, deleted.",
      USE,
    ],
    [
      "a property without a value",
      ["image", "create", "--property", "os"],
      "option '--property <name=value>' argument 'os' is invalid. It must be NAME=VALUE.",
      USE,
    ],
    [
      "a limit that is not a count",
      ["task", "list", "--limit", "all"],
      "option '--limit <count>' argument 'all' is invalid. It must be an integer of at least 1.",
      USE,
    ],
    [
      "an unknown column",
      ["task", "list", "-c", "id,colour"],
      "option '-c, --column <name>' argument 'id,colour' is invalid. There is no column \"colour\"; the columns are id, image_id, owner, status, code, message, run_id, created_at, updated_at, age.",
      USE,
    ],
    [
      "an unknown order",
      ["task", "list", "--sort", "age:up"],
      "option '--sort <key:direction>' argument 'age:up' is invalid. It must be KEY, KEY:asc or KEY:desc, with KEY one of created_at, updated_at, status.",
      USE,
    ],
    [
      "a time that is none",
      ["image", "list", "--created-after", "yesterday"],
      "option '--created-after <time>' argument 'yesterday' is invalid. It must be a time such as 2026-11-30, 2026-11-30T06:00Z or 7d (ago).",
      USE,
    ],
    [
      "a pattern that ends in the middle",
      ["image", "list", "--name", "a\\\\\\"],
      "option '--name <pattern>' argument 'a\\\\\\' is invalid. It ends with a \\ that has nothing to take literally.",
      USE,
    ],
    [
      "a name for several images",
      ["import", "a.raw", "b.raw", "--name", "disk"],
      "--name is about one image, and 2 are imported",
      "Leave it out, or import one image at a time.",
    ],
    ["standard input twice", ["import", "-", "-"], "standard input is named twice", "Name - once."],
    [
      "nothing to stage",
      ["image", "stage", ID],
      "missing required argument 'file'",
      "Name a file, -, or --adopt.",
    ],
    [
      "a file that is both staged and adopted",
      ["image", "stage", ID, "disk.raw", "--adopt"],
      "a file is either staged or adopted, not both",
      "Leave out the file, or --adopt and --uri, which name a file below the staging root.",
    ],
    [
      "a file that is staged, and the place of another",
      ["image", "stage", ID, "disk.raw", "--uri", "file:///staging/disk.raw"],
      "a file is either staged or adopted, not both",
      "Leave out the file, or --adopt and --uri, which name a file below the staging root.",
    ],
    [
      "a file that is adopted, and is to replace another",
      ["image", "stage", ID, "--adopt", "--replace"],
      "an adopted file does not replace staged data",
      "Leave out --replace, and remove the staged data first: `image-import image unstage <image>`.",
    ],
    [
      "nothing to verify",
      ["image", "verify"],
      "name either images or --all",
      "Name one image or more, or give --all.",
    ],
    [
      "one image to verify, and all",
      ["image", "verify", ID, "--all"],
      "name either images or --all",
      "Name one image or more, or give --all.",
    ],
    [
      "nothing to change",
      ["image", "set", ID],
      "no change is named",
      "Name a change: `image-import image set --help` lists them.",
    ],
  ])("refuses %s", async (_, args, message, hint) => {
    expect(await refusalOf(...args)).toEqual({ code: "BadUsage", message, hint, exitCode: 2 });
  });

  it.each([[["import", "disk.raw", "--id"]], [["image", "create", "--id"]]])(
    "refuses an id that is none: %j",
    async (args) => {
      expect(await refusalOf(...args, "no-uuid")).toEqual({
        code: "BadUsage",
        message: `option '--id <uuid>' argument 'no-uuid' is invalid. It must be a UUID such as ${ID}.`,
        hint: USE,
        exitCode: 2,
      });
    },
  );

  it.each([
    [["image", "set", "--name", "x"]],
    [["image", "show"]],
    [["image", "get"]],
    [["image", "deactivate"]],
    [["image", "reactivate"]],
    [["image", "delete"]],
    [["image", "rm"]],
    [["image", "remove-copy", "--store", "local"]],
    [["image", "copy", "--all-stores"]],
    [["image", "start"]],
    [["start"]],
    [["status"]],
    [["watch"]],
    [["pause"]],
    [["resume"]],
    [["drop-store", "--store", "local"]],
    [["cancel"]],
    [["task", "list", "--image"]],
    [["task", "ls", "--image"]],
    [["task", "show"]],
    [["task", "get"]],
  ])("looks a name up in the catalogue: %j", async (args) => {
    expect(await refusalOf(...args, "debian")).toMatchObject({
      code: "NotConfigured",
      message:
        'Cannot look up "debian": Cannot find the catalogue: no stack is running here, and DATABASE_URL is not set',
      hint: expect.stringMatching(/ A full id needs no catalogue\.$/) as unknown,
      exitCode: 2,
    });
  });
});
