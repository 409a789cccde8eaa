import { randomUUID } from "node:crypto";
import { chmodSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { CommandLine } from "../../support/command-line.ts";
import { copyHoldsEnv } from "../../support/copy-holds-env.ts";
import { digestsOf } from "../../support/file-digests.ts";
import { MAY_DROP_RIGHTS, WITH_PERMISSIONS } from "../../support/file-permissions.ts";
import { MIB } from "../../support/mib.ts";
import { MAY_MOUNT, mountSmallVolume } from "../../support/volume.ts";
import { useRunningStack } from "../../support/running-stack.ts";
import { SharedStack, writeDisk } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";
import { PATIENCE } from "../../support/patience.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

/** A command line that reads its standard input from a file through a pipe. */
function readingFrom(path: string): CommandLine {
  return new CommandLine({ dataDir, prefix: ["sh", "-c", 'cat "$0" | "$@"', path] });
}

/** A configuration of this host with another staging area. */
function configWithStaging(staging: string): string {
  const config = join(makeTemporaryDirectory(), "image-import.yaml");
  const stores = { local: { type: "file", path: stack.store("local") } };
  writeFileSync(config, JSON.stringify({ node_staging_uri: pathToFileURL(staging).href, stores }));
  return config;
}

/** Puts a file under the staging root. Returns its path. */
function putIntoStaging(name: string): string {
  const path = join(stack.staging, name);
  // A text is refused as an image.
  writeFileSync(path, Buffer.alloc(16, 0xab));
  onTestFinished(() => {
    rmSync(path, { force: true });
  });
  return path;
}

/** Changes one byte of the copy of an image, which is read-only. */
function flipByteOf(path: string): void {
  const bytes = readFileSync(path);
  bytes[1000] = (bytes[1000] ?? 0) ^ 1;
  chmodSync(path, 0o640);
  writeFileSync(path, bytes);
}

describe("image stage", () => {
  it("stages a file, and returns its digests", async () => {
    const imageId = await stack.queuedImage();
    const file = writeDisk(3 * MIB);

    const result = await commandLine.json("image", "stage", imageId, file);

    expect(result).toEqual({
      exitCode: 0,
      answer: {
        image_id: imageId,
        status: "uploading",
        path: join(stack.staging, imageId),
        ...(await digestsOf(file)),
      },
      failure: undefined,
    });
    expect(await digestsOf(join(stack.staging, imageId))).toEqual(await digestsOf(file));
  });

  it("stages standard input", async () => {
    const imageId = await stack.queuedImage();
    const file = writeDisk(3 * MIB + 1);

    const answer = await readingFrom(file).answer("image", "stage", imageId, "-");

    expect(answer).toMatchObject(await digestsOf(file));
  });

  it("shows people the upload", async () => {
    const imageId = await stack.queuedImage();
    const file = writeDisk();
    const { checksum, os_hash_value: sha512 } = await digestsOf(file);

    expect(await commandLine.run("image", "stage", imageId, file)).toEqual({
      exitCode: 0,
      stdout: [
        `image_id  ${imageId}`,
        "status    uploading",
        `path      ${join(stack.staging, imageId)}`,
        "size      4 KiB (4096 bytes)",
        `checksum  ${checksum}`,
        `sha512    ${sha512}`,
        "",
      ].join("\n"),
      stderr: "",
    });
  });

  it("records with --adopt a file that is already in its place", async () => {
    const imageId = await stack.queuedImage();
    const path = putIntoStaging(imageId);

    const result = await commandLine.json("image", "stage", imageId, "--adopt");

    expect(result).toEqual({
      exitCode: 0,
      answer: {
        image_id: imageId,
        status: "uploading",
        path,
        size: 16,
        checksum: null,
        os_hash_algo: null,
        os_hash_value: null,
      },
      failure: undefined,
    });
    expect(await commandLine.answer("start", imageId, "--wait")).toMatchObject({
      status: "active",
      size: 16,
    });
  });

  it("records with --adopt --uri a file elsewhere under the staging root", async () => {
    const imageId = await stack.queuedImage();
    const path = putIntoStaging(`${randomUUID()}.raw`);

    const answer = await commandLine.answer(
      ...["image", "stage", imageId, "--adopt", "--uri", pathToFileURL(path).href],
    );

    expect(answer).toMatchObject({ path, size: 16, checksum: null });
  });

  it("replaces an upload only with --replace", async () => {
    const imageId = await stack.stagedImage();
    const file = writeDisk();

    const refused = await commandLine.json("image", "stage", imageId, file);
    const replaced = await commandLine.json("image", "stage", imageId, file, "--replace");

    expect(refused).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageConflict",
        image_id: imageId,
        message: `The image "${imageId}" has data on staging already`,
        hint: `Start it (\`image-import start ${imageId}\`), or stage with --replace.`,
      },
    });
    expect(replaced).toMatchObject({ exitCode: 0, answer: await digestsOf(file) });
  });

  it("stages nothing for an image that is active", async () => {
    const imageId = await stack.activeImage();

    expect(await commandLine.json("image", "stage", imageId, writeDisk())).toMatchObject({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageConflict",
        message: `Cannot stage image "${imageId}": it is active, and only a queued image is staged`,
      },
    });
  });
});

describe("image stage of a program that writes nothing", () => {
  it("ends with an image that no import lets into a store", async () => {
    const imageId = await stack.queuedImage();
    const ofNothing = new CommandLine({ dataDir, prefix: ["sh", "-c", 'false | "$@"', "sh"] });

    await ofNothing.answer("image", "stage", imageId, "-");
    await commandLine.json("start", imageId);

    expect(await commandLine.json("watch", imageId)).toMatchObject({
      exitCode: 1,
      failure: {
        code: "UnsafeImage",
        message: expect.stringContaining("it is empty") as string,
      },
    });
    expect(await commandLine.answer("image", "show", imageId)).toMatchObject({ locations: [] });
  });
});

describe("image stage that fails", () => {
  it.each([
    ["a file that is not there", () => "nothing", 3, "FileNotFound"],
    ["a directory", () => makeTemporaryDirectory(), 2, "UnusableFile"],
    ["a symbolic link", linkedDisk, 2, "UnusableFile"],
  ])("rejects %s, and leaves the image queued", async (_, path, exitCode, code) => {
    const imageId = await stack.queuedImage();

    const result = await commandLine.json("image", "stage", imageId, path());

    expect(result).toMatchObject({ exitCode, answer: undefined, failure: { code } });
    expect(await stack.traces(imageId)).toMatchObject({ image: "queued", staging: [] });
  });

  it.each([
    ["outside the staging root", () => "file:///etc/hostname", "StagedDataRefused"],
    [
      "outside the staging root by way of ..",
      () => `${pathToFileURL(stack.staging).href}/../image-import.yaml`,
      "StagedDataRefused",
    ],
    [
      "outside the staging root by way of a link",
      () => pathToFileURL(join(linkedDirectory(), "disk.raw")).href,
      "StagedDataRefused",
    ],
    [
      "that is the service's own",
      () => `${pathToFileURL(stack.staging).href}/.image-import-node`,
      "StagedDataRefused",
    ],
    [
      "that is not there",
      () => `${pathToFileURL(stack.staging).href}/nothing`,
      "StagedDataMissing",
    ],
    ["that no file:/// names", () => "http://127.0.0.1/disk.raw", "BadTaskConfiguration"],
  ])("adopts no file %s", async (_, uri, code) => {
    const imageId = await stack.queuedImage();

    const result = await commandLine.json("image", "stage", imageId, "--adopt", "--uri", uri());

    expect(result).toMatchObject({ exitCode: 1, answer: undefined, failure: { code } });
    expect(await stack.traces(imageId)).toMatchObject({ image: "queued", staging: [] });
  });

  it("adopts no file that is staged for another image", async () => {
    const imageId = await stack.queuedImage();
    const otherId = await stack.stagedImage();
    const other = join(stack.staging, otherId);

    const result = await commandLine.json(
      ...["image", "stage", imageId, "--adopt", "--uri", pathToFileURL(other).href],
    );

    expect(result).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "StagedDataRefused",
        message: `Cannot adopt "${other}": it belongs to image "${otherId}"`,
      },
    });
  });

  const needsRights = MAY_DROP_RIGHTS ? "" : " (skipped: this user can't give up rights)";
  it.skipIf(!MAY_DROP_RIGHTS)(
    `names the staging directory that it may not write${needsRights}`,
    async () => {
      const imageId = await stack.queuedImage();
      const staging = makeTemporaryDirectory();
      chmodSync(staging, 0o500);
      const unprivileged = new CommandLine({ dataDir, prefix: WITH_PERMISSIONS });
      const args = [imageId, writeDisk(), "--config", configWithStaging(staging)];

      const result = await unprivileged.json("image", "stage", ...args);

      expect(result).toMatchObject({
        exitCode: 1,
        answer: undefined,
        failure: {
          code: "BadTaskConfiguration",
          message: `Could not load the filesystem store: EACCES: permission denied, access '${staging}'`,
        },
      });
      expect((await stack.showImage(imageId)).status).toBe("queued");
    },
  );

  const needsMount = MAY_MOUNT ? "" : " (skipped: this user may not mount a file system)";
  it.skipIf(!MAY_MOUNT)(
    `stages nothing of standard input when there is no room${needsMount}`,
    async () => {
      const imageId = await stack.queuedImage();
      const volume = await mountSmallVolume(1);
      const args = [imageId, "-", "--config", configWithStaging(volume)];

      const result = await readingFrom(writeDisk(4 * MIB)).json("image", "stage", ...args);

      expect(result).toMatchObject({
        exitCode: 1,
        answer: undefined,
        failure: { code: "NoSpace", hint: "Free space, or choose another store." },
      });
      expect(readdirSync(volume)).toEqual([".image-import-node"]);
      expect((await stack.showImage(imageId)).status).toBe("queued");
    },
  );

  /** A path in the staging area that leads out of it. */
  function linkedDirectory(): string {
    const path = join(stack.staging, randomUUID());
    symlinkSync(makeTemporaryDirectory(), path);
    onTestFinished(() => {
      rmSync(path);
    });
    return path;
  }
});

function linkedDisk(): string {
  const path = join(makeTemporaryDirectory(), "link.raw");
  symlinkSync(writeDisk(), path);
  return path;
}

describe("image download", () => {
  it("writes an image to a file, and returns the image", async () => {
    const imageId = await stack.activeImage();
    const file = join(makeTemporaryDirectory(), "copy.raw");

    const result = await commandLine.json("image", "download", imageId, "--output", file);

    const image = await stack.showImage(imageId);
    expect(result).toEqual({ exitCode: 0, answer: { ...image, file }, failure: undefined });
    expect(await digestsOf(file)).toMatchObject({
      size: image.size,
      os_hash_value: image.os_hash_value,
    });
  });

  it("shows people the path of the file", async () => {
    const imageId = await stack.activeImage();
    const file = join(makeTemporaryDirectory(), "copy.raw");

    const { exitCode, stdout, stderr } = await commandLine.run(
      ...["image", "download", imageId, "-o", file],
    );

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(new RegExp(`^id +${imageId}\n[^]*\nwritten to ${file}\n$`));
  });

  it("writes the bytes to standard output, and nothing else", async () => {
    const imageId = await stack.activeImage();
    const file = join(makeTemporaryDirectory(), "copy.raw");
    const intoFile = new CommandLine({ dataDir, prefix: ["sh", "-c", '"$@" > "$0"', file] });

    const result = await intoFile.run("image", "download", imageId);

    const { size, os_hash_value } = await stack.showImage(imageId);
    expect(result).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    expect(await digestsOf(file)).toMatchObject({ size, os_hash_value });
  });

  it("ends quietly when the reader closes the pipe", async () => {
    const imageId = await stack.stagedImage(8 * MIB);
    await commandLine.answer("start", imageId, "--wait");
    const lines = 'set -o pipefail; "$@" | head --bytes 10 | wc --bytes';
    const readByHead = new CommandLine({ dataDir, prefix: ["bash", "-c", lines, "bash"] });

    const result = await readByHead.run("image", "download", imageId);

    expect(result).toEqual({ exitCode: 0, stdout: "10\n", stderr: "" });
  });

  it("does not overwrite a file that exists", async () => {
    const imageId = await stack.activeImage();
    const file = writeDisk(10);
    const before = readFileSync(file);

    const result = await commandLine.json("image", "download", imageId, "--output", file);

    expect(result).toEqual({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "UnusableFile",
        image_id: imageId,
        message: `Cannot write "${file}": it exists already`,
        hint: "Name another file, or remove this one.",
      },
    });
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  it("names a directory that does not exist", async () => {
    const imageId = await stack.activeImage();
    const file = join(makeTemporaryDirectory(), "nowhere", "copy.raw");

    expect(await commandLine.json("image", "download", imageId, "--output", file)).toMatchObject({
      exitCode: 3,
      answer: undefined,
      failure: { code: "FileNotFound", message: `There is no directory for "${file}"` },
    });
  });

  it("refuses to read an image that is deactivated", async () => {
    const imageId = await stack.activeImage();
    await commandLine.answer("image", "deactivate", imageId);
    const directory = makeTemporaryDirectory();
    const file = join(directory, "copy.raw");

    const result = await commandLine.json("image", "download", imageId, "--output", file);

    expect(result).toMatchObject({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageConflict",
        message: `Cannot read image "${imageId}": it is deactivated, and only an active image is read`,
      },
    });
    expect(readdirSync(directory)).toEqual([]);
  });

  it("writes no file whose bytes are not those that were imported", async () => {
    const imageId = await stack.activeImage();
    flipByteOf(join(stack.store("local"), `${imageId}.1`));
    const directory = makeTemporaryDirectory();
    const file = join(directory, "copy.raw");

    const result = await commandLine.json("image", "download", imageId, "--output", file);

    expect(result).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "DigestMismatch",
        message: expect.stringContaining(
          `image "${imageId}" in store "local" differ from its sha512`,
        ) as unknown,
      },
    });
    expect(readdirSync(directory)).toEqual([]);
  });

  it("leaves nothing when it is interrupted", async () => {
    const imageId = await stack.stagedImage(4 * MIB);
    await commandLine.answer("start", imageId, "--wait");
    stack.holds.hold("local", imageId);
    const holding = new CommandLine({ dataDir, env: copyHoldsEnv(dataDir) });
    const directory = makeTemporaryDirectory();
    const file = join(directory, "copy.raw");
    const downloading = holding.start("image", "download", imageId, "--output", file);
    await vi.waitUntil(() => readdirSync(directory).length > 0, PATIENCE);

    downloading.interrupt();

    expect(await downloading.result()).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "Interrupted",
        image_id: imageId,
        message: `The download of image "${imageId}" was interrupted`,
        hint: "Run the command again: it kept nothing.",
      },
    });
    expect(readdirSync(directory)).toEqual([]);
  });
});

describe("image verify", () => {
  it("finds every copy as it was recorded", async () => {
    const imageId = await stack.activeImage("local", "slow");

    const result = await commandLine.json("image", "verify", imageId);

    expect(result).toEqual({
      exitCode: 0,
      answer: ["local", "slow"].map((store) => ({
        image_id: imageId,
        store,
        url: pathToFileURL(join(stack.store(store), `${imageId}.1`)).href,
        ok: true,
        reason: null,
      })),
      failure: undefined,
    });
  });

  it("reads an image that is deactivated too", async () => {
    const imageId = await stack.activeImage();
    await commandLine.answer("image", "deactivate", imageId);

    expect(await commandLine.json("image", "verify", imageId)).toMatchObject({
      exitCode: 0,
      answer: [{ image_id: imageId, ok: true }],
    });
  });

  it("finds one byte that differs, in the store where it does", async () => {
    const imageId = await stack.activeImage("local", "slow");
    flipByteOf(join(stack.store("slow"), `${imageId}.1`));

    const result = await commandLine.json("image", "verify", imageId);

    expect(result).toMatchObject({
      exitCode: 1,
      answer: [
        { store: "local", ok: true, reason: null },
        { store: "slow", ok: false, reason: "its sha512 differs from the recorded one" },
      ],
      failure: {
        code: "DigestMismatch",
        message: `The stored bytes differ from the recorded digests: ${imageId} in "slow": its sha512 differs from the recorded one`,
        hint: "Keep a good copy of the data, and import it as a new image.",
      },
    });
  });

  it("finds a copy that is missing", async () => {
    const imageId = await stack.activeImage();
    rmSync(join(stack.store("local"), `${imageId}.1`), { force: true });

    expect(await commandLine.json("image", "verify", imageId)).toMatchObject({
      exitCode: 1,
      answer: [{ store: "local", ok: false }],
      failure: { code: "DigestMismatch" },
    });
  });

  it("shows people a table, and the damage", async () => {
    const imageId = await stack.activeImage();
    const path = join(stack.store("local"), `${imageId}.1`);
    flipByteOf(path);

    const reason = "its sha512 differs from the recorded one";
    expect(await commandLine.run("image", "verify", imageId)).toEqual({
      exitCode: 1,
      stdout: [
        `IMAGE${" ".repeat(33)}STORE  RESULT${" ".repeat(36)}URL`,
        `${imageId}  local  ${reason}  ${pathToFileURL(path).href}`,
        "",
      ].join("\n"),
      stderr: [
        `error: The stored bytes differ from the recorded digests: ${imageId} in "local": ${reason}`,
        "hint: Keep a good copy of the data, and import it as a new image.",
        "",
      ].join("\n"),
    });
  });

  it("has nothing to compare in an image that was never imported", async () => {
    const imageId = await stack.queuedImage();

    expect(await commandLine.json("image", "verify", imageId)).toMatchObject({
      exitCode: 4,
      answer: undefined,
      failure: { code: "ImageConflict" },
    });
  });
});

describe("image verify --all", () => {
  // The command reads every image, so no other test may change one meanwhile.
  const own = useRunningStack();

  it("reads every published image, and finds the one that differs", async () => {
    const imports = [writeDisk(), writeDisk()].map(async (file) => {
      const { image_id: id } = (await own.commandLine.answer("import", file)) as {
        image_id: string;
      };
      return id;
    });
    const ids = (await Promise.all(imports)).sort();
    const [good = "", bad = ""] = ids;

    const before = await own.commandLine.json("image", "verify", "--all");
    flipByteOf(join(own.store("local"), `${bad}.1`));
    const after = await own.commandLine.json("image", "verify", "--all");

    const shown = await own.commandLine.run("image", "verify", "--all");

    expect(shown.stderr).toContain(`image 1 of 2: ${good}\n`);
    expect(shown.stderr).toContain(`image 2 of 2: ${bad}\n`);
    expect(before).toMatchObject({
      exitCode: 0,
      answer: [
        { image_id: good, ok: true },
        { image_id: bad, ok: true },
      ],
      failure: undefined,
    });
    expect(after).toMatchObject({
      exitCode: 1,
      answer: [
        { image_id: good, ok: true },
        { image_id: bad, ok: false },
      ],
      failure: { code: "DigestMismatch" },
    });
  });
});
