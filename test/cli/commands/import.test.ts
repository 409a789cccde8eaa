import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { findFreePort } from "../../../src/stack/ports.ts";
import { findProcessesWithEnvironment } from "../../../src/processes/process-table.ts";
import { MARK_NAME } from "../../../src/stores/store-mark.ts";
import { CommandLine } from "../../support/command-line.ts";
import { craftedVhdx } from "../../support/crafted-images.ts";
import { digestsOf } from "../../support/file-digests.ts";
import { MIB } from "../../support/mib.ts";
import { MAY_MOUNT, mountSmallVolume } from "../../support/volume.ts";
import { HELD_BYTES, SharedStack, writeDisk } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";
import { MAY_DROP_RIGHTS, WITH_PERMISSIONS } from "../../support/file-permissions.ts";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

const someId = expect.stringMatching(UUID) as unknown;

const NOTHING = {
  isClaimed: false,
  locations: [],
  leases: [],
  staging: [],
  stores: { local: [], slow: [], tiny: [] },
};

describe("import", () => {
  it("imports a file with one command, and returns the result", async () => {
    const file = writeDisk(3 * MIB);
    const imageId = randomUUID();

    const result = await commandLine.json("import", file, "--id", imageId);

    expect(result).toEqual({
      exitCode: 0,
      answer: {
        image_id: imageId,
        task_id: someId,
        workflow_id: `image-import/${imageId}`,
        run_id: someId,
        status: "active",
        virtual_size: 3 * MIB,
        detected_format: "raw",
        ...(await digestsOf(file)),
        stores: ["local"],
        unstaged: true,
      },
      failure: undefined,
    });
  });

  it("keeps the file byte for byte, and nothing else", async () => {
    const file = writeDisk(3 * MIB);
    const imageId = randomUUID();

    await commandLine.answer("import", file, "--id", imageId);

    expect(await stack.traces(imageId)).toEqual({
      ...NOTHING,
      image: "active",
      locations: ["local active"],
      stores: { ...NOTHING.stores, local: ["@.1"] },
    });
    const stored = readFileSync(join(stack.store("local"), `${imageId}.1`));
    expect(stored.equals(readFileSync(file))).toBe(true);
  });

  it("shows people each phase on stderr, and the result on stdout", async () => {
    const file = writeDisk();
    const imageId = randomUUID();

    const { exitCode, stdout, stderr } = await commandLine.run("import", file, "--id", imageId);

    const digests = await digestsOf(file);
    expect(exitCode).toBe(0);
    expect(withoutTimes(stderr)).toEqual([
      `image ${imageId}`,
      "accepting   …",
      "verifying   …",
      "store local  stored in …",
      "storing     …",
      "activating  …",
      "",
    ]);
    expect(stdout).toMatch(
      new RegExp(
        [
          `^image_id  ${imageId}`,
          "status    active",
          "size      4 KiB \\(4096 bytes\\)",
          "format    raw",
          `checksum  ${digests.checksum}`,
          `sha512    ${digests.os_hash_value}`,
          "stores    local",
          "task_id   [0-9a-f-]{36}",
          "run_id    [0-9a-f-]{36}\n$",
        ].join("\n"),
      ),
    );
  });

  it("names the image after the file, in the format that the file has", async () => {
    const file = join(makeTemporaryDirectory(), "windows");
    writeFileSync(file, craftedVhdx());
    const imageId = randomUUID();

    await commandLine.answer("import", file, "--id", imageId);

    expect(await stack.showImage(imageId)).toMatchObject({
      name: "windows",
      owner: null,
      disk_format: "vhdx",
      container_format: "bare",
    });
  });

  it("takes the fields of the image from the options, and every store named", async () => {
    const file = writeDisk();
    const imageId = randomUUID();

    const answer = await commandLine.answer(
      "import",
      file,
      ...["--id", imageId, "--name", "debian", "--owner", "alice"],
      ...["--disk-format", "ami", "--container-format", "ami"],
      ...["--store", "slow", "--store", "local"],
    );

    expect(answer).toMatchObject({ status: "active", stores: ["slow", "local"] });
    expect(await stack.showImage(imageId)).toMatchObject({
      name: "debian",
      owner: "alice",
      disk_format: "ami",
      container_format: "ami",
      stores: ["local", "slow"],
    });
  });

  it("takes the owner from the environment", async () => {
    const imageId = randomUUID();
    const asBob = new CommandLine({ dataDir, env: { IMAGE_IMPORT_OWNER: "bob" } });

    await asBob.answer("import", writeDisk(), "--id", imageId);

    expect((await stack.showImage(imageId)).owner).toBe("bob");
  });

  it.each([
    ["an empty file", "", "it is empty"],
    ["a page", "<html>Sign in</html>", "it is an HTML page, not a disk"],
    ["the error of a server", '{"error": 404}', "it is a JSON text, not a disk"],
  ])("makes no image of %s", async (_, bytes, reason) => {
    const file = join(makeTemporaryDirectory(), `${randomUUID()}.raw`);
    writeFileSync(file, bytes);

    expect(await commandLine.json("import", file, "--disk-format", "raw")).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: { code: "UnsafeImage", message: `Cannot accept the image: ${reason}` },
    });
    expect(await commandLine.json("image", "list", "--name", basename(file))).toMatchObject({
      answer: [],
    });
  });

  it("returns once the import is accepted with --detach", async () => {
    const imageId = randomUUID();

    const detached = await commandLine.json("import", writeDisk(), "--id", imageId, "--detach");

    expect(detached).toEqual({
      exitCode: 0,
      answer: {
        image_id: imageId,
        task_id: someId,
        workflow_id: `image-import/${imageId}`,
        run_id: someId,
        status: "importing",
      },
      failure: undefined,
    });
    expect(await commandLine.json("watch", imageId)).toMatchObject({
      exitCode: 0,
      answer: { image_id: imageId, status: "active", task: { status: "success" } },
    });
  });

  it("shows a person who leaves how to come back, and how to cancel", async () => {
    const imageId = randomUUID();
    const file = writeDisk(HELD_BYTES);
    stack.holds.hold("slow", imageId);
    const leaving = commandLine.open("import", file, "--id", imageId, "--store", "slow");
    // It has learned that the import is accepted.
    await leaving.shows("\nverifying ");

    leaving.interrupt();
    const { exitCode, stdout, stderr } = await leaving.result();
    await commandLine.answer("cancel", imageId, "--wait");

    expect(exitCode).toBe(6);
    expect(stderr).toContain(
      `\nLeft; the import continues. \`image-import watch ${imageId}\` follows it, \`image-import cancel ${imageId}\` cancels it.\n`,
    );
    expect(stdout).toMatch(new RegExp(`^image_id +${imageId}\nstatus +importing\n`));
  });
});

describe("import that fails", () => {
  it("removes its upload and the image that it made, and reports the id of the image", async () => {
    const imageId = randomUUID();
    const args = ["--id", imageId, "--disk-format", "qcow2"];

    const result = await commandLine.json("import", writeDisk(), ...args);

    expect(result).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "FormatMismatch",
        run_id: expect.any(String) as string,
        task_id: expect.any(String) as string,
        message: `Image "${imageId}" was not imported: verify: Cannot accept the image as "qcow2": its bytes are "raw"`,
        hint: expect.stringContaining(
          "Declare the format that the data has (`--disk-format`)",
        ) as string,
        step: "verify",
        image_id: imageId,
        image: "removed",
      },
    });
    expect(await stack.traces(imageId)).toEqual({ ...NOTHING, image: "deleted" });
  });

  it("leaves nothing that counts against a quota, however often it fails", async () => {
    const owner = randomUUID();
    const args = ["--owner", owner, "--disk-format", "qcow2"];

    for (let each = 0; each < 3; each += 1) {
      expect((await commandLine.json("import", writeDisk(), ...args)).exitCode).toBe(1);
    }

    expect(await commandLine.answer("usage", "--owner", owner)).toMatchObject({
      usage: { image_count_total: { usage: 0 }, image_stage_total: { usage: 0 } },
    });
  });

  it("does not remove an image that it did not make", async () => {
    const imageId = await stack.queuedImage();

    const { exitCode, failure } = await commandLine.json("import", writeDisk(), "--id", imageId);

    expect({ exitCode, failure }).toMatchObject({ exitCode: 4, failure: { code: "ImageExists" } });
    expect(await stack.traces(imageId)).toEqual({ ...NOTHING, image: "queued" });
  });

  it("keeps with --keep an image that can be imported again", async () => {
    const imageId = randomUUID();
    const file = writeDisk();
    const args = ["--id", imageId, "--disk-format", "qcow2", "--keep"];
    const { failure } = await commandLine.json("import", file, ...args);
    expect(failure).toMatchObject({ image_id: imageId, image: "kept" });

    await commandLine.answer("image", "set", imageId, "--disk-format", "raw");
    await commandLine.answer("image", "stage", imageId, file);
    const answer = await commandLine.answer("start", imageId, "--wait");

    expect(answer).toMatchObject({ image_id: imageId, status: "active" });
  });

  it("keeps the upload when Temporal is unreachable, and shows how to continue", async () => {
    const imageId = randomUUID();
    const TEMPORAL_ADDRESS = `127.0.0.1:${await findFreePort()}`;
    const away = new CommandLine({ dataDir, env: { TEMPORAL_ADDRESS } });

    const result = await away.json("import", writeDisk(), "--id", imageId);

    expect(result).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "TemporalUnavailable",
        message: expect.stringMatching(
          `^Image "${imageId}" was not imported: The Temporal server does not answer: `,
        ) as unknown,
        hint: `Check the Temporal server; \`image-import doctor\` helps. Its data stays staged: \`image-import start ${imageId}\` tries again.`,
        image_id: imageId,
        image: "kept",
      },
    });
    const started = await commandLine.answer("start", imageId, "--wait");
    expect(started).toMatchObject({ image_id: imageId, status: "active" });
  });

  it("makes no image when the database is unreachable", async () => {
    const DATABASE_URL = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;
    const away = new CommandLine({ dataDir, env: { DATABASE_URL } });

    const result = await away.json("import", writeDisk());

    expect(result).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: { code: "DatabaseUnavailable" },
    });
  });
});

describe("import that no worker accepts", () => {
  it.each(["import", "start"])(
    "is started, and reports that with its own exit code: %s",
    async (command) => {
      const idle = await stack.withoutWorker();
      const imageId = command === "import" ? randomUUID() : await stack.stagedImage();
      const what = command === "import" ? [writeDisk(), "--id", imageId] : [imageId];

      const result = await idle.json(command, ...what, "--accept-timeout", "3s");

      expect(result).toEqual({
        exitCode: 5,
        answer: {
          image_id: imageId,
          task_id: null,
          workflow_id: `image-import/${imageId}`,
          run_id: someId,
          status: "waiting",
        },
        failure: undefined,
      });
      expect(await stack.traces(imageId)).toMatchObject({ image: "uploading", staging: ["@"] });
      expect(await idle.answer("status", imageId)).toMatchObject({ state: "waiting", task: null });
    },
  );

  it("shows people that it waits for a worker, and at the end the last known state", async () => {
    const idle = await stack.withoutWorker();
    const imageId = randomUUID();
    const args = ["--id", imageId, "--accept-timeout", "5s"];

    const { exitCode, stdout, stderr } = await idle.runVerbatim("import", writeDisk(), ...args);

    expect(exitCode).toBe(5);
    expect(stderr).toContain("\nwaiting for a worker; ");
    expect(stderr).toContain("is started, and no worker has accepted or refused it yet.");
    expect(stdout).toMatch(
      new RegExp(`^image_id +${imageId}\nstatus +started, not accepted yet\n`),
    );
  });

  it("is reported to a person who leaves", async () => {
    const owner = randomUUID();
    const idle = await stack.withoutWorker({ IMAGE_IMPORT_OWNER: owner });
    const imageId = randomUUID();
    const leaving = idle.run("import", writeDisk(), "--id", imageId);
    await stack.waitForRun(idle, imageId);

    for (const { pid } of findProcessesWithEnvironment("IMAGE_IMPORT_OWNER", owner)) {
      process.kill(pid, "SIGINT");
    }

    expect(await leaving).toMatchObject({
      exitCode: 5,
      stdout: expect.stringContaining("started, not accepted yet") as string,
    });
  });
});

describe("import that is refused", () => {
  /** A path that leads to something else than a file one may import. */
  async function otherPath(kind: string): Promise<string> {
    const path = join(makeTemporaryDirectory(), kind);
    if (kind === "directory") mkdirSync(path);
    if (kind === "symbolic link") symlinkSync(writeDisk(), path);
    if (kind === "FIFO") await promisify(execFile)("mkfifo", [path]);
    return kind === "character device" ? "/dev/null" : path;
  }

  /** The refusal of an import of this file. `isMade` is true if an image was made. */
  async function refusalOf(file: string, ...args: readonly string[]) {
    const imageId = randomUUID();
    const { exitCode, answer, failure } = await commandLine.json(
      "import",
      file,
      "--id",
      imageId,
      ...args,
    );
    const isMade = (await stack.traces(imageId)).image !== null;
    return { exitCode, answer, failure, isMade };
  }

  it("names a file that does not exist", async () => {
    const file = await otherPath("nothing");

    expect(await refusalOf(file)).toEqual({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "FileNotFound",
        message: `There is no file "${file}"`,
        hint: "Check the path.",
      },
      isMade: false,
    });
  });

  it.each(["directory", "symbolic link", "FIFO", "character device"])(
    "refuses %s in place of a file",
    async (kind) => {
      const path = await otherPath(kind);

      expect(await refusalOf(path)).toEqual({
        exitCode: 2,
        answer: undefined,
        failure: {
          code: "UnusableFile",
          message: `Cannot open "${path}": it is a ${kind}, not a regular file`,
          hint: "Name a regular file that this user may read.",
        },
        isMade: false,
      });
    },
  );

  const needsRights = MAY_DROP_RIGHTS ? "" : " (skipped: this user can't give up rights)";
  it.skipIf(!MAY_DROP_RIGHTS)(`names a file that may not be read${needsRights}`, async () => {
    const file = writeDisk();
    chmodSync(file, 0o000);
    const unprivileged = new CommandLine({ dataDir, prefix: WITH_PERMISSIONS });

    const result = await unprivileged.json("import", file);

    expect(result).toEqual({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "UnusableFile",
        message: `Cannot read "${file}": permission denied`,
        hint: "Name a regular file that this user may read.",
      },
    });
  });

  it("names a store that is not configured, before anything is staged for it", async () => {
    const refusal = await refusalOf(writeDisk(), "--store", "local", "--store", "nowhere");

    expect(refusal).toEqual({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "UnknownStore",
        message: 'Cannot find store "nowhere": the configured stores are "local", "slow", "tiny"',
        hint: "`image-import stores` lists the stores that are configured.",
      },
      isMade: false,
    });
  });

  it("names a transform that is not configured, before anything is staged for it", async () => {
    const refusal = await refusalOf(writeDisk(), "--transform", "convert");

    expect(refusal).toMatchObject({
      exitCode: 2,
      failure: {
        code: "BadRequest",
        message: 'There is no transform "convert"; none is configured',
      },
      isMade: false,
    });
  });

  it("imports without a transform with --no-transform", async () => {
    const imported = await commandLine.answer("import", writeDisk(), "--no-transform");

    expect(imported).toMatchObject({ status: "active" });
  });

  it.each(["ftp://example.org/disk.img", "http://user:password@example.org/disk.img"])(
    "makes no image for %s",
    async (url) => {
      expect(await refusalOf(url)).toMatchObject({
        exitCode: 2,
        failure: { code: "BadRequest" },
        isMade: false,
      });
    },
  );

  it.each([
    ["a checksum that is none", ["--checksum", "sha256:00"], "It must be sha256:, sha512: or md5:"],
    ["a store that is named twice", ["--store", "local", "--store", "local"], "named twice"],
  ])("stages nothing for %s", async (_, args, rule) => {
    expect(await refusalOf(writeDisk(), ...args)).toMatchObject({
      exitCode: 2,
      failure: { message: expect.stringContaining(rule) as string },
      isMade: false,
    });
  });

  it("names an id that is taken", async () => {
    const imageId = await stack.queuedImage();

    const result = await commandLine.json("import", writeDisk(), "--id", imageId);

    expect(result).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageExists",
        message: `Cannot create image "${imageId}": the id is taken`,
        hint: "Choose another id, or leave it out.",
      },
    });
  });

  it("reports that this host has no configuration, before an image is made", async () => {
    const imageId = randomUUID();
    const { database_url: DATABASE_URL, temporal_address: TEMPORAL_ADDRESS } = stack.file;
    const elsewhere = new CommandLine({
      dataDir: join(makeTemporaryDirectory(), "none"),
      env: { DATABASE_URL, TEMPORAL_ADDRESS },
    });

    const result = await elsewhere.json("import", writeDisk(), "--id", imageId);

    expect(result).toMatchObject({
      exitCode: 2,
      answer: undefined,
      failure: { code: "NotConfigured" },
    });
    expect((await stack.traces(imageId)).image).toBeNull();
  });
});

const needsMount = MAY_MOUNT ? "" : " (skipped: this user may not mount a file system)";
describe.skipIf(!MAY_MOUNT)(`import where there is no room${needsMount}`, () => {
  it("stages nothing where the staging area is too small", async () => {
    const imageId = randomUUID();
    const volume = await mountSmallVolume(1);
    const config = join(makeTemporaryDirectory(), "image-import.yaml");
    const settings = {
      node_staging_uri: pathToFileURL(volume).href,
      stores: { local: { type: "file", path: stack.store("local") } },
    };
    writeFileSync(config, JSON.stringify(settings));
    const args = ["--id", imageId, "--config", config];

    const result = await commandLine.json("import", writeDisk(2 * MIB), ...args);

    expect(result).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "NoSpace",
        message: expect.stringMatching(
          `^Image "${imageId}" was not imported: Cannot stage 2 MiB: the staging area has \\S+ KiB free$`,
        ) as unknown,
        hint: "Free space, or choose another store. The image was removed; `--keep` keeps it.",
        image_id: imageId,
        image: "removed",
      },
    });
    expect(await stack.traces(imageId)).toEqual({ ...NOTHING, image: "deleted" });
  });

  it("undoes itself where a store is too small, and names the store", async () => {
    const imageId = randomUUID();
    await mountOnTiny(await mountSmallVolume(1));
    const stores = ["--store", "local", "--store", "tiny"];

    const result = await commandLine.json(
      "import",
      writeDisk(2 * MIB),
      "--id",
      imageId,
      "--keep",
      ...stores,
    );

    expect(result).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "NoSpace",
        run_id: expect.any(String) as string,
        task_id: expect.any(String) as string,
        message: expect.stringMatching(
          `^Image "${imageId}" was not imported: store "tiny": Cannot copy to store "tiny": 2 MiB are needed, \\S+ KiB are free$`,
        ) as unknown,
        hint: "Free space, or choose another store.",
        step: "store",
        store: "tiny",
        image_id: imageId,
        image: "kept",
      },
    });
    expect(await stack.traces(imageId)).toEqual({ ...NOTHING, image: "queued" });
    expect((await stack.showImage(imageId)).os_glance_failed_import).toEqual(["tiny"]);
  });

  it("becomes active in the other stores when one is too small and not all must succeed", async () => {
    await mountOnTiny(await mountSmallVolume(1));
    const options = ["--all-stores", "--no-all-stores-must-succeed"];

    const result = await commandLine.json("import", writeDisk(2 * MIB), ...options);

    expect(result).toMatchObject({
      exitCode: 0,
      answer: { status: "active", stores: ["local", "slow"] },
    });
    const { image_id: imageId } = result.answer as { readonly image_id: string };
    expect((await stack.showImage(imageId)).os_glance_failed_import).toEqual(["tiny"]);
  });
});

/** Makes the store `tiny` as small as this volume, until the test has finished. */
async function mountOnTiny(volume: string): Promise<void> {
  const path = stack.store("tiny");
  // Without the mark of the store, the volume would be taken for a place where the store is not
  // mounted.
  await copyFile(join(path, MARK_NAME), join(volume, MARK_NAME));
  await promisify(execFile)("mount", ["--bind", volume, path]);
  onTestFinished(async () => {
    await promisify(execFile)("umount", ["--lazy", path]);
  });
}

/**
 * Lines, each duration replaced by an ellipsis; without the amounts of work that lasts more than
 * five seconds, as any may on a busy machine.
 */
function withoutTimes(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => !/^(staging|store \w+) +\d/.test(line))
    .map((line) => line.replace(/\d[\d.]* (ms|s)$/, "…"));
}
