import { chmodSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CommandLine } from "../../support/command-line.ts";
import { MAY_DROP_RIGHTS, WITH_PERMISSIONS } from "../../support/file-permissions.ts";
import { useS3Server } from "../../support/s3-server.ts";
import { SharedStack } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";
import { MAY_MOUNT, mountSmallVolume } from "../../support/volume.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

const NEEDS_MOUNT = MAY_MOUNT ? "" : " (skipped: this user may not mount file systems)";

const someBytes = expect.any(Number) as unknown;

/** A configuration with these stores. */
function writeConfig(stores: Readonly<Record<string, object>>): string {
  const config = join(makeTemporaryDirectory(), "image-import.yaml");
  writeFileSync(config, JSON.stringify({ stores }));
  return config;
}

/**
 * A configuration with these stores. Each is a directory beside the file; the directory of the
 * store `missing` does not exist.
 */
function configOf(...names: readonly string[]): string {
  const config = writeConfig(
    Object.fromEntries(
      names.map((name) => [
        name,
        { type: "file", path: name === "missing" ? "missing/directory" : name },
      ]),
    ),
  );
  for (const name of names.filter((each) => each !== "missing")) mkdirSync(storeOf(config, name));
  return config;
}

/** The directory of a store of {@link configOf}. */
function storeOf(config: string, name: string): string {
  return join(config, "..", name);
}

/** The row of `stores` for a file store that works. */
function workingStore(name: string, path: string, mark: string | null = "none yet"): object {
  return {
    name,
    type: "file",
    default: false,
    read_only: false,
    disabled: false,
    location: path,
    works: true,
    reason: null,
    free_bytes: someBytes,
    mark,
  };
}

describe("stores", () => {
  it("lists the stores of this host, and the state of each", async () => {
    const result = await commandLine.json("stores");

    expect(result).toEqual({
      exitCode: 0,
      answer: ["local", "slow", "tiny"].map((name) => ({
        ...workingStore(name, stack.store(name), "present"),
        default: name === "local",
      })),
      failure: undefined,
    });
  });

  it("shows people a table", async () => {
    const { exitCode, stdout, stderr } = await commandLine.run("stores");

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(
      /^NAME +TYPE +DEFAULT +LOCATION +FREE +STATE\nlocal +file +yes +\/\S+\/local +\d.* [KMGT]iB +works\nslow +file +\/\S+ +\d.* works\ntiny /,
    );
  });

  it("needs nothing but the configuration file", async () => {
    const config = configOf("archive");
    const elsewhere = new CommandLine({ dataDir: join(makeTemporaryDirectory(), "none") });

    expect(await elsewhere.answer("stores", "--config", config)).toEqual([
      { ...workingStore("archive", storeOf(config, "archive"), null), default: true },
    ]);
  });

  it("reports why a store does not work", async () => {
    const config = configOf("archive", "missing");

    expect(await commandLine.answer("stores", "--config", config)).toMatchObject([
      { name: "archive", works: true, reason: null },
      {
        name: "missing",
        works: false,
        reason: expect.stringMatching(/^ENOENT: no such file or directory/) as unknown,
        free_bytes: null,
      },
    ]);
  });

  const needsRights = MAY_DROP_RIGHTS ? "" : " (skipped: this user can't give up rights)";
  it.skipIf(!MAY_DROP_RIGHTS)(
    `reports that this process may not write to a store${needsRights}`,
    async () => {
      const config = configOf("archive");
      chmodSync(join(config, "..", "archive"), 0o500);
      const unprivileged = new CommandLine({ dataDir, prefix: WITH_PERMISSIONS });

      expect(await unprivileged.answer("stores", "--config", config)).toMatchObject([
        {
          name: "archive",
          works: false,
          reason: expect.stringMatching(/^EACCES: permission denied/) as unknown,
        },
      ]);
    },
  );
});

describe("stores --adopt", () => {
  it("makes the place of a store that of the store", async () => {
    const config = configOf("adopted");
    await commandLine.answer("stores", "--adopt", "adopted", "--config", config);
    const moved = configOf("adopted");

    expect(await commandLine.answer("stores", "--config", moved)).toMatchObject([
      {
        works: false,
        reason: expect.stringContaining("does not have the mark of this store") as unknown,
      },
    ]);
    expect(
      await commandLine.answer("stores", "--adopt", "adopted", "--config", moved),
    ).toMatchObject({ name: "adopted", is_new: true, looked_for: 0, found: 0 });
    expect(await commandLine.answer("stores", "--config", moved)).toMatchObject([
      { works: true, mark: "present" },
    ]);
    expect(await commandLine.answer("stores", "--config", config)).toMatchObject([
      { works: false },
    ]);
  });
});

describe("stores that are read-only or disabled", () => {
  function configOfAll(archive: object): string {
    const config = writeConfig({
      away: { type: "file", path: "missing", disabled: true },
      archive: { type: "file", path: "archive", read_only: true, ...archive },
      objects: { type: "s3", bucket: "images", prefix: "glance", disabled: true },
      fast: { type: "file", path: "fast" },
    });
    for (const name of ["archive", "fast"]) mkdirSync(storeOf(config, name));
    return config;
  }

  it("are listed as such, and disabled ones are not touched", async () => {
    const config = configOfAll({});

    const result = await commandLine.json("stores", "--check", "--config", config);

    const disabled = { disabled: true, works: null, free_bytes: null, mark: null };
    expect(result).toEqual({
      exitCode: 0,
      answer: [
        { ...workingStore("away", storeOf(config, "missing")), ...disabled },
        { ...workingStore("archive", storeOf(config, "archive")), read_only: true },
        { ...workingStore("objects", "s3://images/glance/"), type: "s3", ...disabled },
        { ...workingStore("fast", storeOf(config, "fast")), default: true },
      ],
      failure: undefined,
    });
  });

  it("are shown to people as such", async () => {
    const config = configOfAll({ path: "elsewhere" });

    const { stdout } = await commandLine.run("stores", "--config", config);

    expect(stdout).toMatch(/^away +file +\/\S+ +- +disabled$/m);
    expect(stdout).toMatch(
      /^archive +file +\/\S+ +- +read-only, Cannot use store .* does not exist$/m,
    );
    expect(stdout).toMatch(/^objects +s3 +s3:\/\/images\/glance\/ +- +disabled$/m);
    expect(stdout).toMatch(/^fast +file +yes +\/\S+ +\d.* works, not marked yet$/m);
  });
});

describe("stores --check", () => {
  it("leaves nothing in a store that works", async () => {
    const config = configOf("archive");

    const answer = await commandLine.answer("stores", "--check", "--config", config);

    expect(answer).toMatchObject([{ name: "archive", works: true, reason: null }]);
    expect(readdirSync(storeOf(config, "archive"))).toEqual([]);
  });

  it("lists all stores, and fails when one does not work", async () => {
    const config = configOf("archive", "missing");

    const { exitCode, answer, failure } = await commandLine.json(
      "stores",
      "--check",
      "--config",
      config,
    );

    expect({ exitCode, failure }).toEqual({
      exitCode: 1,
      failure: {
        code: "StoreUnavailable",
        message: expect.stringMatching(
          /^Not all stores work: missing: .*"\/\S+\/missing\/directory" does not exist/,
        ) as unknown,
        hint: "Check path or bucket, permissions and credentials of these stores.",
      },
    });
    expect(answer).toMatchObject([
      { name: "archive", works: true },
      { name: "missing", works: false },
    ]);
  });

  it.skipIf(!MAY_MOUNT)(
    `finds a full store, which \`stores\` alone does not${NEEDS_MOUNT}`,
    async () => {
      const path = await mountSmallVolume(1);
      const config = writeConfig({ full: { type: "file", path } });
      writeFileSync(join(path, "filler"), Buffer.alloc(1024 * 1024));

      expect(await commandLine.json("stores", "--config", config)).toMatchObject({
        exitCode: 0,
        answer: [{ name: "full", works: true, free_bytes: 0 }],
      });
      expect(await commandLine.json("stores", "--check", "--config", config)).toMatchObject({
        exitCode: 1,
        answer: [
          { name: "full", works: false, reason: expect.stringContaining("ENOSPC") as unknown },
        ],
      });
    },
  );
});

describe("stores in S3", () => {
  const server = useS3Server();
  const NO_CREDENTIALS = { AWS_EC2_METADATA_DISABLED: "true", HOME: "/nonexistent" };

  function configOfS3(bucket: string): string {
    const { endpoint } = server;
    return writeConfig({ objects: { type: "s3", bucket, prefix: "glance", endpoint } });
  }

  it.each([[[]], [["--check"]]])("are looked at or tried, with %j", async (options) => {
    const withCredentials = new CommandLine({ dataDir, env: server.env });
    const bucket = await server.makeBucket();
    const config = configOfS3(bucket);

    const answer = await withCredentials.answer("stores", ...options, "--config", config);

    expect(answer).toEqual([
      {
        name: "objects",
        type: "s3",
        default: true,
        read_only: false,
        disabled: false,
        location: `s3://${bucket}/glance/`,
        works: true,
        reason: null,
        free_bytes: null,
        mark: "none yet",
      },
    ]);
  });

  it.each([
    ["the bucket is not there", "no-such-bucket", true],
    ["the environment has no credentials", undefined, false],
  ])("do not work when %s", async (_, bucket, hasCredentials) => {
    const env = { ...NO_CREDENTIALS, ...(hasCredentials ? server.env : {}) };
    const config = configOfS3(bucket ?? (await server.makeBucket()));

    const result = await new CommandLine({ dataDir, env }).json(
      "stores",
      "--check",
      "--config",
      config,
    );

    expect(result).toMatchObject({
      exitCode: 1,
      answer: [{ name: "objects", works: false, reason: expect.any(String) as unknown }],
      failure: { code: "StoreUnavailable" },
    });
  });
});

describe("a configuration file", () => {
  it("that is broken is rejected with all its mistakes at once", async () => {
    const config = join(makeTemporaryDirectory(), "image-import.yaml");
    writeFileSync(
      config,
      `
stores:
  archive: { type: file, path: archive, bandwidth_limit: fast }
  objects: { type: s3, bucket: images, secret_key: sesame }
  tapes: { type: tape }
staging: { time_to_live: tomorrow }
import: { slots: 0, patience: 7 }
colour: blue
`,
    );

    const { exitCode, answer, failure } = await commandLine.json("stores", "--config", config);

    const { code, message, hint } = failure as Record<"code" | "message" | "hint", string>;
    expect({ exitCode, answer, code, hint }).toEqual({
      exitCode: 2,
      answer: undefined,
      code: "BadConfiguration",
      hint: "Correct the configuration file or the environment.",
    });
    expect(message).toMatch(`Cannot use the configuration "${config}": `);
    for (const mistake of [
      'stores.tapes.type (line 5): must be of the type "file" or "s3"',
      'stores.objects (line 4): "secret_key" must not be in this file: ',
      'stores.archive.bandwidth_limit (line 3): must be a size such as 64MiB, not "fast"',
      'staging.time_to_live (line 6): must be a duration such as 15s, not "tomorrow"',
      "import.slots (line 7): ",
      'import (line 7): Unrecognized key: "patience"',
      'file (line 8): Unrecognized key: "colour"',
    ]) {
      expect(message).toContain(mistake);
    }
  });

  it("that is missing is named", async () => {
    const config = join(makeTemporaryDirectory(), "nothing.yaml");

    expect(await commandLine.json("stores", "--config", config)).toMatchObject({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "BadConfiguration",
        message: expect.stringContaining(`Cannot read the configuration "${config}"`) as unknown,
      },
    });
  });

  it("that is missing does not stop a command that needs none", async () => {
    const config = join(makeTemporaryDirectory(), "nothing.yaml");
    const imageId = await stack.queuedImage();

    expect(await commandLine.json("image", "show", imageId, "--config", config)).toMatchObject({
      exitCode: 0,
      answer: { id: imageId },
    });
  });
});

describe("a data directory", () => {
  const needsRights = MAY_DROP_RIGHTS ? "" : " (skipped: this user can't give up rights)";
  it.skipIf(!MAY_DROP_RIGHTS)(`that may not be read is named${needsRights}`, async () => {
    const closed = makeTemporaryDirectory();
    chmodSync(closed, 0o000);
    const unprivileged = new CommandLine({ dataDir: closed, prefix: WITH_PERMISSIONS });

    expect(await unprivileged.json("stores")).toMatchObject({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "BadConfiguration",
        message: expect.stringContaining(closed) as unknown,
      },
    });
  });
});
