import { Command, Option } from "commander";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { commandsOf, commandText } from "../../scripts/docs/commands.mjs";
import { failureList } from "../../scripts/docs/failures.mjs";
import { routeList } from "../../scripts/docs/routes.mjs";
import { settingsOf, settingsText } from "../../scripts/docs/settings.mjs";

describe("commandText()", () => {
  it("has usage, description and options, with values and defaults", () => {
    const program = new Command("image-import");
    const image = program.command("image");
    image
      .command("list")
      .argument("<owner>")
      .argument("[name]")
      .description("list images")
      .addOption(new Option("--status <status>", "only this status").choices(["active", "queued"]))
      .option("--limit <count>", "how many at most", Number, 100)
      .requiredOption("--store <name>", "of this store");

    const [[name, command] = ["", image]] = commandsOf(program);

    expect(commandText(name, command)).toBe(
      [
        "### `image-import image list <owner> [name]`",
        "",
        "List images.",
        "",
        "- `--status <status>`: only this status. One of `active`, `queued`",
        "- `--limit <count>`: how many at most. Default: `100`",
        "- `--store <name>` (required): of this store",
      ].join("\n"),
    );
  });

  it("has examples, and breaks long ones before an option", () => {
    const digest = `--checksum sha256:${"0".repeat(64)}`;
    const line = `image-import import disk.qcow2 ${digest} --name fedora-42`;
    const command = new Command("import").description("import");

    const text = commandText("import", command, [{ does: "Import a file", line }]);

    expect(text.split("\n").slice(4)).toEqual([
      "```text",
      "# Import a file",
      "image-import import disk.qcow2 \\",
      `    ${digest} \\`,
      "    --name fedora-42",
      "```",
    ]);
  });
});

describe("settingsOf()", () => {
  it("finds each setting with its values, default and description", () => {
    const size = z.union([z.number(), z.string()]).meta({ unit: "size" });
    const store = z.discriminatedUnion("type", [
      z.strictObject({ type: z.literal("file"), path: z.string().meta({ description: "Place." }) }),
      z.strictObject({ type: z.literal("s3"), part: size.default(16 * 1024 ** 2) }),
    ]);
    const schema = z.strictObject({
      stores: z.record(z.string(), store),
      import: z
        .strictObject({
          slots: z.int().min(1).max(8).default(3),
          deadline: z
            .string()
            .transform(Number)
            .meta({ unit: "duration" })
            .default(90 * 60_000),
          order: z.array(z.enum(["a", "b"])).default([]),
          keep: z.boolean().optional().meta({ default: "as it is" }),
        })
        .prefault({}),
    });
    const settings = settingsOf(schema);

    expect(settingsText(settings, ["stores", "import"], new Set()).split("\n")).toEqual([
      "- `stores.NAME.type` (`file` or `s3`; required):",
      "- `stores.NAME.path` (text; required): Place.",
      "- `stores.NAME.part` (size; default `16MiB`):",
      "- `import.slots` (whole number from 1 to 8; default `3`):",
      "- `import.deadline` (duration; default `90m`):",
      "- `import.order` (list of `a` or `b`; default: empty):",
      "- `import.keep` (`true` or `false`; default: as it is):",
    ]);
  });
});

describe("failureList()", () => {
  it("lists the failures that belong to it", () => {
    const failures = {
      NoSpace: { retryable: false, exitCode: 1, hint: "Free space." },
      StoreUnavailable: { retryable: true, exitCode: 1, hint: "Check the store." },
    };

    expect(failureList(failures, ({ retryable }) => retryable)).toBe(
      "- `StoreUnavailable`: Check the store.",
    );
  });
});

describe("routeList()", () => {
  it("has each route with its summary", () => {
    const paths = {
      "/v2/images": { get: { summary: "List images" }, post: { summary: "Create" } },
    };

    expect(routeList({ paths })).toBe(
      "- `GET /v2/images`: List images\n- `POST /v2/images`: Create",
    );
  });

  it("refuses a route without a summary", () => {
    expect(() => routeList({ paths: { "/v2": { get: {} } } })).toThrow(
      "The route GET /v2 has no summary",
    );
  });
});
