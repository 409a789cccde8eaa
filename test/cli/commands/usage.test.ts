import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CommandLine } from "../../support/command-line.ts";
import { SharedStack, writeDisk } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

/** The configuration of the shared stack with these limits, for the commands of one test. */
function configWith(limits: object): string {
  const config = join(makeTemporaryDirectory(), "image-import.yaml");
  const settings = {
    node_staging_uri: `file://${join(dataDir, "staging")}`,
    stores: { local: { type: "file", path: stack.store("local") } },
    limits,
  };
  writeFileSync(config, JSON.stringify(settings));
  return config;
}

describe("usage", () => {
  it("shows the usage and the limits of an owner", async () => {
    const owner = `owner-${randomUUID()}`;
    const config = configWith({ owners: { [owner]: { image_size_total: "1GiB" } } });
    await commandLine.answer("import", writeDisk(4096), "--owner", owner, "--config", config);
    const { id } = await (await stack.connect()).images.create({ owner });
    await commandLine.answer("image", "stage", id, writeDisk(1000), "--config", config);

    const result = await commandLine.json("usage", "--owner", owner, "--config", config);

    expect(result).toEqual({
      exitCode: 0,
      answer: {
        owner,
        usage: {
          image_size_total: { limit: 1024 ** 3, usage: 4096, reserved: 0 },
          image_stage_total: { limit: null, usage: 1000, reserved: 0 },
          image_count_total: { limit: null, usage: 2, reserved: 0 },
          image_count_uploading: { limit: null, usage: 1, reserved: 0 },
        },
      },
      failure: undefined,
    });
  });

  it("shows people the usage as a table", async () => {
    const owner = `owner-${randomUUID()}`;
    const config = configWith({ image_stage_total: "1.5GiB", image_count_total: 7 });

    const { stdout } = await commandLine.run("usage", "--owner", owner, "--config", config);

    expect(stdout).toBe(
      [
        "QUOTA                  LIMIT    USAGE  RESERVED",
        "image_size_total       -        0 B    0 B",
        "image_stage_total      1.5 GiB  0 B    0 B",
        "image_count_total      7        0      0",
        "image_count_uploading  -        0      0",
        "",
      ].join("\n"),
    );
  });

  it("takes the owner from IMAGE_IMPORT_OWNER", async () => {
    const owner = `owner-${randomUUID()}`;
    const theirs = new CommandLine({ dataDir, env: { IMAGE_IMPORT_OWNER: owner } });

    expect(await theirs.answer("usage")).toMatchObject({ owner });
  });

  it("is that of the images without an owner when none is named", async () => {
    expect(await commandLine.answer("usage")).toMatchObject({ owner: null });
  });
});

describe("a quota that is used up", () => {
  it("refuses the next image with exit code 1, and names the command that shows the usage", async () => {
    const owner = `owner-${randomUUID()}`;
    const args = ["--owner", owner, "--config", configWith({ image_count_total: 1 })];
    await commandLine.answer("image", "create", ...args);

    const result = await commandLine.json("image", "create", ...args);

    expect(result).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "QuotaExceeded",
        message: `image_count_total of owner "${owner}" is over limit of 1 due to current usage 1 and delta 1`,
        hint: "`image-import usage` shows what the owner has; delete images, or raise the limit under `limits`.",
      },
    });
  });
});
