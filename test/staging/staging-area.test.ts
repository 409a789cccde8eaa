import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import {
  chmod,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeEach, describe, expect, it } from "vitest";
import { fingerprintOf } from "../../src/bytes/fingerprint.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { StagingArea } from "../../src/staging/staging-area.ts";
import { pathOfStagingUri } from "../../src/staging/staging-uri.ts";
import type { VolumeRecords } from "../../src/staging/volume-id.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { asUnprivileged } from "../support/unprivileged.ts";

const NODE_FILE = ".image-import-node";
const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

const WRONG_URI = {
  code: "BadTaskConfiguration",
  message: "Value of node_staging_uri must be in format 'file://<absolute-path>'",
};

let directory: string;
let root: string;
beforeEach(async () => {
  directory = makeTemporaryDirectory();
  root = join(directory, "staging");
  await mkdir(root);
});

async function openArea(uri = pathToFileURL(root).href): Promise<StagingArea> {
  return StagingArea.open(uri);
}

/** The entries of the staging area except the file with the id of its volume. */
async function namesInRoot(): Promise<string[]> {
  return (await readdir(root)).filter((name) => name !== NODE_FILE).sort();
}

/** The bytes that `openStaged` opens. */
async function readStaged(area: StagingArea, uri?: string): Promise<string> {
  const { handle } = await area.openStaged(IMAGE_ID, uri);
  try {
    return await handle.readFile("utf8");
  } finally {
    await handle.close();
  }
}

async function agree(): Promise<void> {
  return Promise.resolve();
}

describe("StagingArea.open()", () => {
  it("gives an id to a volume that has none", async () => {
    const area = await openArea();

    expect(area.root).toBe(root);
    expect(area.node).toMatch(/^[0-9a-f]{12}$/);
    expect(await readdir(root)).toEqual([NODE_FILE]);
  });

  it("finds the same id at every start, wherever the volume is", async () => {
    const { node } = await openArea();
    const elsewhere = join(directory, "elsewhere");
    await rename(root, elsewhere);

    const again = await openArea(pathToFileURL(elsewhere).href);

    expect(again.node).toBe(node);
  });

  it("gets one id when it is opened many times at once, and keeps no drafts", async () => {
    const areas = await Promise.all(Array.from({ length: 20 }, () => openArea()));

    expect(new Set(areas.map(({ node }) => node)).size).toBe(1);
    expect(await readdir(root)).toEqual([NODE_FILE]);
  });

  it("gives no id to the empty mount point of a volume that this host has used", async () => {
    const used = new Map<string, string>();
    const records: VolumeRecords = {
      find: async (path) => Promise.resolve(used.get(path)),
      record: async (path, node) => {
        await Promise.resolve(used.set(path, node));
      },
    };
    const uri = pathToFileURL(root).href;
    const { node } = await StagingArea.open(uri, records);
    await rename(root, join(directory, "unmounted"));
    await mkdir(root);

    expect(await failureOf(StagingArea.open(uri, records))).toMatchObject({
      code: "StagingUnavailable",
      message: expect.stringContaining(node) as string,
      hint: expect.stringContaining(`openssl rand -hex 6 > ${root}/${NODE_FILE}`) as string,
    });
    expect(await readdir(root)).toEqual([]);

    await writeFile(join(root, NODE_FILE), `${node}\n`);
    expect((await StagingArea.open(uri, records)).node).toBe(node);
  });

  it("refuses another URI than a file URI, in Glance's words", async () => {
    expect(await failureOf(openArea(root))).toMatchObject({
      ...WRONG_URI,
      hint: `Correct "${root}".`,
    });
  });

  it.each([
    ["a directory that is not there", async () => rm(root, { recursive: true }), "ENOENT"],
    [
      "a file",
      async () => {
        await rm(root, { recursive: true });
        await writeFile(root, "", { mode: 0o777 });
      },
      "is not a directory",
    ],
    [
      "a volume whose name is none",
      async () => writeFile(join(root, NODE_FILE), "me\n"),
      "Cannot read the id of the staging volume",
    ],
  ])("refuses %s, in Glance's words and with the reason", async (_, spoil, reason) => {
    await spoil();

    expect(await failureOf(openArea())).toMatchObject({
      code: "BadTaskConfiguration",
      message: expect.stringMatching(
        new RegExp(`^Could not load the filesystem store: .*${reason}`),
      ) as string,
    });
  });

  it("refuses a directory that it may not write, in Glance's words and with the reason", async () => {
    await chmod(directory, 0o755);
    await chmod(root, 0o555);

    const failure = await asUnprivileged(() => failureOf(openArea()));

    expect(failure).toMatchObject({
      code: "BadTaskConfiguration",
      message: expect.stringMatching(
        /^Could not load the filesystem store: EACCES: permission denied/,
      ) as string,
    });
  });
});

describe("StagingArea.uriOf()", () => {
  it("puts one slash between the staging URI and the image", async () => {
    const uri = pathToFileURL(root).href;

    const uris = await Promise.all(
      [uri, `${uri}/`, `${uri}//`].map(async (each) => (await openArea(each)).uriOf(IMAGE_ID)),
    );

    expect(uris).toEqual([`${uri}/${IMAGE_ID}`, `${uri}/${IMAGE_ID}`, `${uri}/${IMAGE_ID}`]);
  });

  it("names the path of pathOf(), whatever characters it has", async () => {
    root = join(directory, "a b#c%d é");
    await mkdir(root);
    const area = await openArea();

    expect(pathOfStagingUri(area.uriOf(IMAGE_ID))).toBe(area.pathOf(IMAGE_ID));
  });
});

describe("StagingArea.createPart()", () => {
  it("creates an empty file that its user and group alone may read", async () => {
    const area = await openArea();
    const part = newPartName(IMAGE_ID, 0);

    await (await area.createPart(part)).close();

    const { size, mode } = await stat(join(root, part));
    expect([size, mode & 0o007]).toEqual([0, 0]);
  });

  it("leaves an existing file alone", async () => {
    const area = await openArea();
    const part = newPartName(IMAGE_ID, 0);
    await writeFile(join(root, part), "theirs");

    await expect(area.createPart(part)).rejects.toHaveProperty("code", "EEXIST");
    expect(await readFile(join(root, part), "utf8")).toBe("theirs");
  });

  it("fails as an unreachable volume when it is missing", async () => {
    const area = await openArea();
    await rm(root, { recursive: true });

    expect(await failureOf(area.createPart(newPartName(IMAGE_ID, 0)))).toMatchObject({
      code: "StagingUnavailable",
      retryable: true,
      message: expect.stringContaining(`Cannot use the staging area "${root}"`) as string,
    });
  });

  it("fails permanently when this user may not write there", async () => {
    const area = await openArea();
    await chmod(directory, 0o755);
    await chmod(root, 0o555);

    const failure = await asUnprivileged(() =>
      failureOf(area.createPart(newPartName(IMAGE_ID, 0))),
    );

    expect(failure).toMatchObject({ code: "PermissionDenied", retryable: false });
  });
});

describe("StagingArea.syncPart()", () => {
  it("keeps a part that was synced", async () => {
    const area = await openArea();
    const part = newPartName(IMAGE_ID, 0);
    await using handle = await area.createPart(part);

    await area.syncPart(handle, part);

    expect(await namesInRoot()).toEqual([part]);
  });

  it("discards a part whose bytes may be lost", async () => {
    const area = await openArea();
    const part = newPartName(IMAGE_ID, 0);
    await using handle = await area.createPart(part);
    handle.sync = async () => {
      throw Object.assign(new Error("EIO: i/o error, fsync"), { code: "EIO" });
    };

    expect(await failureOf(area.syncPart(handle, part))).toMatchObject({
      code: "StagingUnavailable",
    });
    expect(await namesInRoot()).toEqual([]);
  });
});

describe("StagingArea.requireRoom()", () => {
  it("accepts what is free", async () => {
    const area = await openArea();

    // Half of it: other programs fill the same file system between the two looks.
    const wanted = Math.floor((await area.freeBytes()) / 2);
    await expect(area.requireRoom(wanted)).resolves.toBeUndefined();
  });

  it("refuses more than any volume has, and names the free bytes", async () => {
    const area = await openArea();

    expect(await failureOf(area.requireRoom(Number.MAX_SAFE_INTEGER))).toMatchObject({
      code: "NoSpace",
      message: expect.stringMatching(
        /^Cannot stage 8 PiB: the staging area has [\d.]+ \w+ free$/,
      ) as string,
    });
  });
});

describe("StagingArea.publish()", () => {
  /** The finished private file of an attempt. */
  async function finishedPart(text: string): Promise<string> {
    const part = newPartName(IMAGE_ID, 0);
    await writeFile(join(root, part), text);
    return part;
  }

  it("gives a part its final name, and does not ask when the name is free", async () => {
    const area = await openArea();
    const part = await finishedPart("bytes");

    await area.publish(part, area.pathOf(IMAGE_ID), async () => {
      throw new Error("It asked");
    });

    expect(await namesInRoot()).toEqual([IMAGE_ID]);
    expect(await readFile(area.pathOf(IMAGE_ID), "utf8")).toBe("bytes");
  });

  it("replaces the name and never the inode, which a store may hold", async () => {
    const area = await openArea();
    await writeFile(area.pathOf(IMAGE_ID), "old");
    const stored = join(directory, "stored");
    await link(area.pathOf(IMAGE_ID), stored);

    await area.publish(await finishedPart("new"), area.pathOf(IMAGE_ID), agree);

    expect(await readFile(area.pathOf(IMAGE_ID), "utf8")).toBe("new");
    expect(await readFile(stored, "utf8")).toBe("old");
  });

  it("replaces nothing when it may not, and keeps the part", async () => {
    const area = await openArea();
    await writeFile(area.pathOf(IMAGE_ID), "old");
    const part = await finishedPart("new");
    const reason = new Error("Not yours");

    const publishing = area.publish(part, area.pathOf(IMAGE_ID), async () => {
      throw reason;
    });

    await expect(publishing).rejects.toBe(reason);
    expect(await readFile(area.pathOf(IMAGE_ID), "utf8")).toBe("old");
    expect(await namesInRoot()).toEqual([IMAGE_ID, part].sort());
  });

  it("asks again when another file takes the name meanwhile", async () => {
    const area = await openArea();
    await writeFile(area.pathOf(IMAGE_ID), "old");
    let asked = 0;

    await area.publish(await finishedPart("new"), area.pathOf(IMAGE_ID), async () => {
      asked += 1;
      if (asked > 1) return;
      // Another process may take the name after the removal, as here.
      await rm(area.pathOf(IMAGE_ID));
      await writeFile(area.pathOf(IMAGE_ID), "theirs");
    });

    expect(await readFile(area.pathOf(IMAGE_ID), "utf8")).toBe("new");
  });

  it("fails as an unreachable volume when the part is gone", async () => {
    const area = await openArea();

    expect(
      await failureOf(area.publish(newPartName(IMAGE_ID, 0), area.pathOf(IMAGE_ID), agree)),
    ).toMatchObject({ code: "StagingUnavailable" });
  });
});

describe("StagingArea.openStaged()", () => {
  it("opens the file with the name of the image, with its fingerprint", async () => {
    const area = await openArea();
    await writeFile(area.pathOf(IMAGE_ID), "bytes");

    const opened = await area.openStaged(IMAGE_ID);

    expect(opened.path).toBe(area.pathOf(IMAGE_ID));
    expect(opened.fingerprint).toEqual(await fingerprintOf(opened.handle));
    expect(await opened.handle.readFile("utf8")).toBe("bytes");
    await opened.handle.close();
  });

  it("opens the file at a URI below the root", async () => {
    const area = await openArea();
    await mkdir(join(root, "a b"));
    await writeFile(join(root, "a b", "disk"), "bytes");

    expect(await readStaged(area, `file://${root}/a%20b/disk`)).toBe("bytes");
  });

  it("opens a file below a root that is itself reached by a symbolic link", async () => {
    const door = join(directory, "door");
    await symlink(root, door);
    const area = await openArea(pathToFileURL(door).href);
    await writeFile(join(root, IMAGE_ID), "bytes");

    expect(await readStaged(area)).toBe("bytes");
  });

  it("names the path when there is no file", async () => {
    const area = await openArea();

    expect(await failureOf(area.openStaged(IMAGE_ID))).toMatchObject({
      code: "StagedDataMissing",
      message: `Cannot find the staged data "${area.pathOf(IMAGE_ID)}": the file does not exist`,
    });
  });

  it("names the path when its directory is missing", async () => {
    const area = await openArea();

    expect(await failureOf(area.openStaged(IMAGE_ID, `file://${root}/gone/disk`))).toMatchObject({
      code: "StagedDataMissing",
      message: `Cannot find the staged data "${root}/gone/disk": the file does not exist`,
    });
  });

  it("refuses another URI than a file URI, in Glance's words", async () => {
    const area = await openArea();

    expect(await failureOf(area.openStaged(IMAGE_ID, `${root}/disk`))).toMatchObject(WRONG_URI);
  });

  it.each([
    ["symbolic link", async (path: string) => symlink("/etc/passwd", path)],
    ["directory", async (path: string) => mkdir(path)],
    ["FIFO", (path: string) => execFileSync("mkfifo", [path])],
  ])("refuses a %s, and does not wait for it", async (kind, make) => {
    const area = await openArea();
    await make(area.pathOf(IMAGE_ID));

    expect(await failureOf(area.openStaged(IMAGE_ID))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot open "${area.pathOf(IMAGE_ID)}": it is a ${kind}, not a regular file`,
    });
  });

  it.each([
    ["the root itself", (here: string) => here],
    ["a file beside the root", (here: string) => `${here}/../outside`],
    ["a file far away", () => "/etc/passwd"],
    ["a way out that is written with percent signs", (here: string) => `${here}/%2e%2e/outside`],
    ["a directory whose name begins like the root's", (here: string) => `${here}-of-others/disk`],
    ["a way out through a symbolic link", (here: string) => `${here}/exit/outside`],
  ])("refuses %s", async (_, pathAt) => {
    const area = await openArea();
    await writeFile(join(directory, "outside"), "secret");
    await mkdir(`${root}-of-others`);
    await writeFile(`${root}-of-others/disk`, "secret");
    await symlink(directory, join(root, "exit"));

    expect(await failureOf(area.openStaged(IMAGE_ID, `file://${pathAt(root)}`))).toMatchObject({
      code: "StagedDataRefused",
      message: expect.stringContaining(`it does not lie below "${root}"`) as string,
    });
  });

  it("fails permanently when this user may not read it", async () => {
    const area = await openArea();
    await writeFile(area.pathOf(IMAGE_ID), "bytes");
    await chmod(directory, 0o755);
    await chmod(area.pathOf(IMAGE_ID), 0o000);

    const failure = await asUnprivileged(() => failureOf(area.openStaged(IMAGE_ID)));

    expect(failure).toMatchObject({ code: "PermissionDenied", retryable: false });
  });
});

describe("StagingArea.isOwnFile()", () => {
  it.each([
    ["the private file of an attempt", newPartName(IMAGE_ID, 3), true],
    ["the file that names the volume", NODE_FILE, true],
    ["the data of an image", IMAGE_ID, false],
    ["a file of a user", "disk.part", false],
  ])("knows %s", async (_, name, expected) => {
    const area = await openArea();

    expect(area.isOwnFile(join(root, name))).toBe(expected);
  });
});

describe("StagingArea.discard()", () => {
  it("removes the part and the staged file, and nothing else", async () => {
    const area = await openArea();
    const part = newPartName(IMAGE_ID, 0);
    const others = [randomUUID(), newPartName(IMAGE_ID, 0)].sort();
    for (const name of [part, IMAGE_ID, ...others]) await writeFile(join(root, name), "");

    await area.discard({ part, path: area.pathOf(IMAGE_ID) });

    expect(await namesInRoot()).toEqual(others);
  });

  it.each([
    ["neither name is given", {}],
    ["both are null", { part: null, path: null }],
    ["nothing lies there", { part: newPartName(IMAGE_ID, 0), path: IMAGE_ID }],
    ["the directory of the file is gone", { path: "gone/disk" }],
  ])("succeeds when %s", async (_, names) => {
    const area = await openArea();

    await expect(area.discard(names)).resolves.toBeUndefined();
  });

  it("removes a symbolic link and not its target", async () => {
    const area = await openArea();
    const outside = join(directory, "outside");
    await writeFile(outside, "secret");
    await symlink(outside, area.pathOf(IMAGE_ID));

    await area.discard({ path: area.pathOf(IMAGE_ID) });

    expect(await readdir(directory)).toEqual(["outside", "staging"]);
    expect(await namesInRoot()).toEqual([]);
  });

  it("refuses to remove a file outside the root", async () => {
    const area = await openArea();
    const outside = join(directory, "outside");
    await writeFile(outside, "theirs");

    expect(await failureOf(area.discard({ path: outside }))).toMatchObject({
      code: "StagedDataRefused",
    });
    expect(await readFile(outside, "utf8")).toBe("theirs");
  });

  it("removes what was recorded while its root was at another path", async () => {
    const area = await openArea();
    const product = area.productPathOf(newPartName(IMAGE_ID, 1));
    await writeFile(area.pathOf(IMAGE_ID), "an upload");
    await writeFile(product, "a product");

    await area.discard({ path: `/gone/staging/${IMAGE_ID}` });
    await area.discard({ path: product.replace(root, "/gone/staging") });

    expect(await namesInRoot()).toEqual([]);
  });

  it.each([
    ["the private file", { part: newPartName(IMAGE_ID, 0) }],
    ["the staged file", { path: IMAGE_ID }],
  ])("never treats a missing volume as one without %s", async (_, names) => {
    const area = await openArea();
    await rm(root, { recursive: true });

    expect(await failureOf(area.discard(names))).toMatchObject({
      code: "StagingUnavailable",
      retryable: true,
    });
  });
});

describe("StagingArea.listParts()", () => {
  it("lists parts that were not written for a while, and nothing else", async () => {
    const area = await openArea();
    const [old, recent] = [newPartName(IMAGE_ID, 0), newPartName(IMAGE_ID, 0)];
    const minuteAgo = new Date(Date.now() - 60_000);
    for (const name of [old, recent, IMAGE_ID, "disk.part"]) {
      await writeFile(join(root, name), "");
      if (name !== recent) await utimes(join(root, name), minuteAgo, minuteAgo);
    }

    expect(await area.listParts(50_000)).toEqual([old]);
  });

  it("fails as an unreachable volume when it is missing", async () => {
    const area = await openArea();
    await rm(root, { recursive: true });

    expect(await failureOf(area.listParts(0))).toMatchObject({ code: "StagingUnavailable" });
  });
});

describe("a staging area whose volume is not mounted", () => {
  it.each<[string, (area: StagingArea) => Promise<unknown>]>([
    ["discard a part", (area) => area.discard({ part: newPartName(IMAGE_ID, 0) })],
    ["discard a staged file", (area) => area.discard({ path: join(root, IMAGE_ID) })],
    ["create a part", (area) => area.createPart(newPartName(IMAGE_ID, 0))],
    ["open a staged file", (area) => area.openStaged(IMAGE_ID)],
    ["list parts", (area) => area.listParts(0)],
  ])("is unavailable to %s, and its mount point stays empty", async (_, use) => {
    const area = await openArea();
    await rename(root, join(directory, "away"));
    await mkdir(root);

    expect(await failureOf(use(area))).toMatchObject({
      code: "StagingUnavailable",
      retryable: true,
      message: expect.stringContaining(`it has no id, not ${area.node}`) as unknown,
    });
    expect(await readdir(root)).toEqual([]);
  });
});
