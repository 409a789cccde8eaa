import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { ImageView } from "../../../src/client/image-view.ts";
import { findFreePort } from "../../../src/stack/ports.ts";
import { CommandLine } from "../../support/command-line.ts";
import { SharedStack } from "../../support/shared-stack.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

const someTime = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as unknown;

const SHOW_HINT = "`image-import image show <image-id>` shows the state of the image.";

function idsOf(images: unknown): string[] {
  return (images as ImageView[]).map(({ id }) => id);
}

describe("image create", () => {
  it("makes an image without data", async () => {
    const result = await commandLine.json("image", "create");

    expect(result).toEqual({
      exitCode: 0,
      answer: {
        id: expect.stringMatching(/^[0-9a-f-]{36}$/) as unknown,
        name: null,
        owner: null,
        status: "queued",
        disk_format: null,
        container_format: "bare",
        visibility: "shared",
        protected: false,
        os_hidden: false,
        min_disk: 0,
        min_ram: 0,
        is_direct_upload: false,
        size: null,
        virtual_size: null,
        checksum: null,
        os_hash_algo: null,
        os_hash_value: null,
        stores: [],
        locations: [],
        os_glance_importing_to_stores: [],
        os_glance_failed_import: [],
        os_glance_import_task: null,
        properties: {},
        tags: [],
        created_at: someTime,
        updated_at: someTime,
      },
      failure: undefined,
    });
  });

  it("takes every field that an option sets", async () => {
    const id = randomUUID();

    const answer = await commandLine.answer(
      ...["image", "create", "--id", id, "--name", "debian", "--owner", "alice"],
      ...["--disk-format", "qcow2", "--container-format", "bare"],
      ...[
        "--property",
        "os=linux",
        "--property",
        "arch=arm",
        "--tag",
        "golden",
        "--tag",
        "bullseye",
      ],
    );

    expect(answer).toMatchObject({
      id,
      name: "debian",
      owner: "alice",
      disk_format: "qcow2",
      container_format: "bare",
      properties: { os: "linux", arch: "arm" },
      tags: ["bullseye", "golden"],
    });
  });

  it("shows people the new image", async () => {
    const id = randomUUID();

    const { exitCode, stdout, stderr } = await commandLine.run("image", "create", "--id", id);

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(
      new RegExp(`^id                ${id}\nname              -\n[^]*\nstatus            queued\n`),
    );
  });

  it("refuses an id that is taken", async () => {
    const id = await stack.queuedImage();

    expect(await commandLine.json("image", "create", "--id", id)).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageExists",
        message: `Cannot create image "${id}": the id is taken`,
        hint: "Choose another id, or leave it out.",
      },
    });
  });

  it("refuses a property of the service's own", async () => {
    const property = ["--property", "os_glance_importing_to_stores=local"];

    expect(await commandLine.json("image", "create", ...property)).toEqual({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "BadRequest",
        message: "Attribute 'os_glance_importing_to_stores' is reserved",
        hint: "Choose another name for the property; `image-import image set --help` lists the attributes that are set in another way.",
      },
    });
  });
});

describe("image set", () => {
  it("changes the named fields, and nothing else", async () => {
    const client = await stack.connect();
    const { id } = await client.images.create({
      name: "debian",
      owner: "alice",
      diskFormat: "raw",
      properties: { os: "linux", arch: "arm" },
      tags: ["old", "golden"],
    });

    const answer = await commandLine.answer(
      ...["image", "set", id, "--name", "bullseye", "--disk-format", "qcow2"],
      ...["--property", "os=debian", "--property", "boot=uefi", "--remove-property", "arch"],
      ...["--tag", "new", "--remove-tag", "old"],
    );

    expect(answer).toMatchObject({
      id,
      name: "bullseye",
      owner: "alice",
      disk_format: "qcow2",
      container_format: null,
      properties: { os: "debian", boot: "uefi" },
      tags: ["golden", "new"],
    });
  });

  it("changes visibility, needs and owner", async () => {
    const id = await stack.queuedImage();

    const changed = await commandLine.answer(
      ...["image", "set", id, "--community", "--protected", "--hidden", "--min-disk", "20"],
      ...["--min-ram", "512", "--owner", "bob"],
    );
    const refusal = await commandLine.json("image", "delete", id);
    const back = await commandLine.answer(
      ...["image", "set", id, "--visibility", "private", "--unprotected", "--unhidden"],
      ...["--min-ram", "0"],
    );

    expect(changed).toMatchObject({
      visibility: "community",
      protected: true,
      os_hidden: true,
      min_disk: 20,
      min_ram: 512,
      owner: "bob",
    });
    expect(refusal).toMatchObject({
      exitCode: 4,
      failure: {
        code: "ImageProtected",
        message: `Image "${id}" is protected and cannot be deleted.`,
        hint: "`image-import image set <image-id> --unprotected` allows it.",
      },
    });
    expect(back).toMatchObject({
      visibility: "private",
      protected: false,
      os_hidden: false,
      min_disk: 20,
      min_ram: 0,
    });
  });

  it.each([
    ["--public", "--private"],
    ["--shared", "--visibility", "public"],
    ["--protected", "--unprotected"],
    ["--hidden", "--unhidden"],
    ["--min-disk", "1.5"],
  ])("refuses %s %s", async (...args) => {
    const id = await stack.queuedImage();

    expect(await commandLine.json("image", "set", id, ...args)).toMatchObject({ exitCode: 2 });
  });

  it("keeps the changes that a user made during an import", async () => {
    const { image_id: id } = await stack.runningImport();

    const edited = await commandLine.json(
      ...["image", "set", id, "--name", "edited", "--property", "os=linux", "--tag", "golden"],
    );
    stack.release(id);
    await commandLine.answer("watch", id);

    expect(edited).toMatchObject({ exitCode: 0, answer: { status: "importing", name: "edited" } });
    expect(await stack.showImage(id)).toMatchObject({
      status: "active",
      name: "edited",
      properties: { os: "linux" },
      tags: ["golden"],
    });
  });

  it("changes no format while an import runs", async () => {
    const { image_id: id } = await stack.runningImport();

    expect(await commandLine.json("image", "set", id, "--disk-format", "qcow2")).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageConflict",
        image_id: id,
        message: `Cannot change the formats of image "${id}": it is importing, and formats are frozen once an import begins`,
        hint: SHOW_HINT,
      },
    });
  });
});

describe("image show", () => {
  it("shows where the bytes of an active image are", async () => {
    const id = await stack.activeImage("local", "slow");

    const image = await commandLine.answer("image", "show", id);

    expect(image).toMatchObject({
      id,
      status: "active",
      size: 4096,
      virtual_size: 4096,
      stores: ["local", "slow"],
      locations: [
        { store: "local", url: `file://${stack.store("local")}/${id}.1` },
        { store: "slow", url: `file://${stack.store("slow")}/${id}.1` },
      ],
    });
  });

  it("shows the task that imports it now, and to which stores", async () => {
    const { image_id: id, task_id: taskId } = await stack.runningImport();

    expect(await commandLine.answer("image", "show", id)).toMatchObject({
      status: "importing",
      stores: [],
      locations: [],
      os_glance_importing_to_stores: ["slow"],
      os_glance_failed_import: [],
      os_glance_import_task: taskId,
    });
  });
});

describe("image list", () => {
  it("lists the newest first", async () => {
    const name = randomUUID();
    const client = await stack.connect();
    const first = await client.images.create({ name });
    const second = await client.images.create({ name });

    const answer = await commandLine.answer("image", "list", "--name", name);

    expect(idsOf(answer)).toEqual([second.id, first.id]);
  });

  it("lists at most the requested number", async () => {
    const name = randomUUID();
    const client = await stack.connect();
    await client.images.create({ name });
    const second = await client.images.create({ name });

    const answer = await commandLine.answer("image", "list", "--name", name, "--limit", "1");

    expect(idsOf(answer)).toEqual([second.id]);
  });

  it("lists those of an owner in a status", async () => {
    const owner = randomUUID();
    const client = await stack.connect();
    const queued = await client.images.create({ owner });
    const other = await client.images.create({ owner });
    await client.images.delete(other.id);

    const args = ["--owner", owner, "--status", "queued"];

    expect(idsOf(await commandLine.answer("image", "list", ...args))).toEqual([queued.id]);
  });

  it("shows people a table", async () => {
    const name = randomUUID();
    const { id } = await (await stack.connect()).images.create({ name, diskFormat: "iso" });

    const { stdout, ...rest } = await commandLine.run("image", "ls", "--name", name);

    expect(rest).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout.replace(/\d+ [sm]$/m, "some time")).toBe(
      [
        `${"ID".padEnd(36)}  ${"NAME".padEnd(36)}  OWNER  STATUS  FORMAT  SIZE  STORES  AGE`,
        `${id}  ${name}  -      queued  iso     -     -       some time`,
        "",
      ].join("\n"),
    );
  });

  it("says how to continue when more images exist than it may list", async () => {
    const owner = randomUUID();
    const client = await stack.connect();
    const first = await client.images.create({ owner });
    const second = await client.images.create({ owner });
    const list = ["image", "list", "--owner", owner, "-f", "csv", "-c", "id,owner"];

    const page = await commandLine.run(...list, "--limit", "1");
    const next = await commandLine.run(...list, "--limit", "1", "--marker", second.id);

    expect(page).toEqual({
      exitCode: 0,
      stdout: `id,owner\n${second.id},${owner}\n`,
      stderr: `There are more images: \`--marker ${second.id}\` continues the list\n`,
    });
    expect(next).toEqual({
      exitCode: 0,
      stdout: `id,owner\n${first.id},${owner}\n`,
      stderr: "",
    });
  });

  it("filters and sorts by attributes of an image", async () => {
    const owner = randomUUID();
    const client = await stack.connect();
    const tags = ["golden"];
    const properties = { os: '50%, "quoted"' };
    const b = await client.images.create({ owner, name: "b", tags, properties, diskFormat: "raw" });
    const a = await client.images.create({ owner, name: "a", tags, properties, diskFormat: "raw" });
    await client.images.create({ owner, name: "c", tags, diskFormat: "raw" });

    const answer = await commandLine.answer(
      ...[
        "image",
        "list",
        "--owner",
        owner,
        "--tag",
        "golden",
        "--property",
        `os=${properties.os}`,
      ],
      ...["--disk-format", "raw", "--created-after", "1h", "--name", "?", "--sort", "name"],
    );

    expect(idsOf(answer)).toEqual([a.id, b.id]);
  });

  it("filters by visibility and needs, and sorts by several keys", async () => {
    const owner = randomUUID();
    const { images } = await stack.connect();
    const one = await images.create({ owner, name: "a", visibility: "private", minDisk: 1 });
    const two = await images.create({ owner, name: "b", protected: true, minRam: 2 });
    const six = await images.create({ owner, name: "b", osHidden: true, diskFormat: "iso" });
    const list = async (...args: string[]): Promise<string[]> =>
      idsOf(await commandLine.answer("image", "list", "--owner", owner, ...args));

    expect(await list("--private")).toEqual([one.id]);
    expect(await list("--visibility", "private", "--min-disk", "1")).toEqual([one.id]);
    expect(await list("--protected", "--min-ram", "2")).toEqual([two.id]);
    expect(await list("--hidden")).toEqual([six.id]);
    expect(await list("--unhidden", "--unprotected")).toEqual([one.id]);
    expect(await list("--sort", "name:desc,disk_format:asc")).toEqual([two.id, six.id, one.id]);
  });

  it("is an empty list where there is nothing", async () => {
    expect(await commandLine.json("image", "list", "--name", randomUUID())).toEqual({
      exitCode: 0,
      answer: [],
      failure: undefined,
    });
  });
});

describe("image member", () => {
  it("offers an image to a project, records its answer, and withdraws it", async () => {
    const id = await stack.queuedImage();
    const member = (...args: string[]) => commandLine.answer("image", "member", ...args);
    const offered = { image_id: id, member_id: "ann", created_at: someTime, updated_at: someTime };

    expect(await member("add", id, "ann")).toEqual({ ...offered, status: "pending" });
    expect(await member("set", id, "ann", "--status", "accepted")).toMatchObject({
      status: "accepted",
    });
    expect(await member("list", id)).toEqual([{ ...offered, status: "accepted" }]);
    expect((await commandLine.run("image", "member", "list", id)).stdout).toMatch(
      /^MEMBER +STATUS +CREATED +UPDATED\nann +accepted +/,
    );
    expect(await member("remove", id, "ann")).toEqual({
      image_id: id,
      member_id: "ann",
      status: "removed",
    });
    expect(await member("list", id)).toEqual([]);
  });

  it("reports a member that does not exist", async () => {
    const id = await stack.queuedImage();

    expect(await commandLine.json("image", "member", "remove", id, "ann")).toMatchObject({
      exitCode: 3,
      failure: { code: "MemberNotFound", message: `Image "${id}" has no member "ann"` },
    });
  });
});

describe("image deactivate, image reactivate", () => {
  it("forbids to read an image, and allows it again", async () => {
    const id = await stack.activeImage();

    const deactivated = await commandLine.json("image", "deactivate", id);
    const reactivated = await commandLine.json("image", "reactivate", id);

    expect(deactivated).toMatchObject({ exitCode: 0, answer: { id, status: "deactivated" } });
    expect(reactivated).toMatchObject({ exitCode: 0, answer: { id, status: "active" } });
  });

  it.each([
    ["deactivate", "deactivated"],
    ["reactivate", "active"],
  ])("refuse an image without data: %s", async (command, wanted) => {
    const id = await stack.queuedImage();

    expect(await commandLine.json("image", command, id)).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "IllegalTransition",
        image_id: id,
        message: `Cannot change an image from "queued" to "${wanted}"`,
        hint: SHOW_HINT,
      },
    });
  });

  it("refuse an image that an import brings to active", async () => {
    const { image_id: id } = await stack.runningImport();

    expect(await commandLine.json("image", "reactivate", id)).toMatchObject({
      exitCode: 4,
      answer: undefined,
    });
    expect((await stack.showImage(id)).status).toBe("importing");
  });
});

describe("image delete", () => {
  it("leaves neither bytes nor image", async () => {
    const id = await stack.activeImage("local", "slow");

    const deleted = await commandLine.json("image", "delete", id);

    expect(deleted).toEqual({ exitCode: 0, answer: { id, status: "deleted" }, failure: undefined });
    expect(await stack.traces(id)).toEqual({
      image: "deleted",
      isClaimed: false,
      locations: [],
      leases: [],
      staging: [],
      stores: { local: [], slow: [], tiny: [] },
    });
  });

  it("removes the upload", async () => {
    const id = await stack.stagedImage();

    await commandLine.answer("image", "delete", id);

    expect((await stack.traces(id)).staging).toEqual([]);
  });

  it("finds nothing the second time", async () => {
    const id = await stack.queuedImage();
    await commandLine.answer("image", "delete", id);

    expect(await commandLine.json("image", "delete", id)).toEqual({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "ImageNotFound",
        image_id: id,
        message: `No image has the id "${id}"`,
        hint: "`image-import image list` lists the images.",
      },
    });
  });

  it("reports pending_delete when Temporal is unreachable, and completes when repeated", async () => {
    const id = await stack.activeImage();
    const TEMPORAL_ADDRESS = `127.0.0.1:${await findFreePort()}`;
    const away = new CommandLine({ dataDir, env: { TEMPORAL_ADDRESS } });

    const begun = await away.run("image", "delete", id);
    const ended = await commandLine.json("image", "delete", id);

    expect(begun).toEqual({
      exitCode: 0,
      stdout: `id      ${id}\nstatus  pending_delete; its bytes are removed in the background\n`,
      stderr: "",
    });
    expect(ended).toMatchObject({ exitCode: 0, answer: { id, status: "deleted" } });
  });
});

describe("image remove-copy", () => {
  it("leaves the image in its other stores, and nothing in this one", async () => {
    const id = await stack.activeImage("local", "slow");

    const removed = await commandLine.json("image", "remove-copy", id, "--store", "slow");

    expect(removed).toEqual({
      exitCode: 0,
      answer: { id, store: "slow", status: "removed" },
      failure: undefined,
    });
    expect(await commandLine.answer("image", "show", id)).toMatchObject({
      status: "active",
      stores: ["local"],
      locations: [{ store: "local", url: `file://${stack.store("local")}/${id}.1`, damage: null }],
    });
    expect(await stack.traces(id)).toMatchObject({
      image: "active",
      locations: ["local active"],
      stores: { local: ["@.1"], slow: [] },
    });
  });

  it("shows people the removed copy", async () => {
    const id = await stack.activeImage("local", "slow");
    const options = ["--store", "slow", "--wait"];

    expect(await commandLine.run("image", "remove-copy", id, ...options)).toEqual({
      exitCode: 0,
      stdout: `id      ${id}\nstore   slow\nstatus  removed\n`,
      stderr: "",
    });
  });

  it("removes a copy of an image that is deactivated", async () => {
    const id = await stack.activeImage("local", "slow");
    await commandLine.answer("image", "deactivate", id);

    await commandLine.answer("image", "remove-copy", id, "--store", "slow");

    expect(await stack.showImage(id)).toMatchObject({ status: "deactivated", stores: ["local"] });
  });

  it("refuses the last copy, and leaves it", async () => {
    const id = await stack.activeImage("local");

    expect(await commandLine.json("image", "remove-copy", id, "--store", "local")).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageConflict",
        image_id: id,
        message: `Cannot remove the copy of image "${id}" in store "local": it is the last one`,
        hint: "`image-import image delete <image-id>` deletes the image with its last copy.",
      },
    });
    expect((await stack.traces(id)).stores).toMatchObject({ local: ["@.1"] });
  });

  it.each(["slow", "nowhere"])("finds no copy in a store that has none: %s", async (store) => {
    const id = await stack.activeImage("local");

    expect(await commandLine.json("image", "remove-copy", id, "--store", store)).toEqual({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "CopyNotFound",
        image_id: id,
        message: `Image "${id}" has no copy in store "${store}"; it has copies in "local"`,
        hint: "`image-import image show <image-id>` lists the stores that have it.",
      },
    });
  });

  it("finds nothing the second time", async () => {
    const id = await stack.activeImage("local", "slow");
    await commandLine.answer("image", "remove-copy", id, "--store", "slow");

    expect(await commandLine.json("image", "remove-copy", id, "--store", "slow")).toMatchObject({
      exitCode: 3,
      answer: undefined,
      failure: { code: "CopyNotFound" },
    });
  });

  it("refuses an image without copies", async () => {
    const id = await stack.queuedImage();

    expect(await commandLine.json("image", "remove-copy", id, "--store", "local")).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageConflict",
        image_id: id,
        message: `Cannot remove a copy of image "${id}": it is queued, and only a published image has copies`,
        hint: SHOW_HINT,
      },
    });
  });

  it("asks for the store", async () => {
    expect(await commandLine.json("image", "remove-copy", randomUUID())).toMatchObject({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "BadUsage",
        message: "required option '--store <name>' not specified",
      },
    });
  });

  it("reports pending_delete when Temporal is unreachable, no longer lists the copy, and completes when repeated", async () => {
    const id = await stack.activeImage("local", "slow");
    const TEMPORAL_ADDRESS = `127.0.0.1:${await findFreePort()}`;
    const away = new CommandLine({ dataDir, env: { TEMPORAL_ADDRESS } });
    const command = ["image", "remove-copy", id, "--store", "slow"];

    const begun = await away.run(...command);
    const { stores } = await stack.showImage(id);
    const ended = await commandLine.json(...command);

    expect(begun).toEqual({
      exitCode: 0,
      stdout: `id      ${id}\nstore   slow\nstatus  pending_delete; its bytes are removed in the background\n`,
      stderr: "",
    });
    expect(stores).toEqual(["local"]);
    expect(ended).toMatchObject({ exitCode: 0, answer: { id, store: "slow", status: "removed" } });
  });

  it("reports with --wait that it cannot follow the removal when Temporal is unreachable", async () => {
    const id = await stack.activeImage("local", "slow");
    const TEMPORAL_ADDRESS = `127.0.0.1:${await findFreePort()}`;
    const away = new CommandLine({ dataDir, env: { TEMPORAL_ADDRESS } });

    const waited = await away.json("image", "remove-copy", id, "--store", "slow", "--wait");

    expect(waited).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "TemporalUnavailable",
        image_id: id,
        message: `The copy of image "${id}" in store "slow" is not removed yet, and the removal cannot be followed`,
        hint: "Its bytes are removed in the background. Run `image-import doctor`: it shows what is unreachable.",
      },
    });
    expect((await stack.traces(id)).locations).toEqual(["local active", "slow pending_delete"]);
  });
});

describe("image commands about an image that does not exist", () => {
  it.each([
    [["show"]],
    [["set", "--name", "x"]],
    [["stage", fileURLToPath(import.meta.url)]],
    [["start"]],
    [["deactivate"]],
    [["reactivate"]],
    [["delete"]],
    [["remove-copy", "--store", "local"]],
    [["download", "--output", "/dev/null/x"]],
    [["verify"]],
  ])("report that: %j", async (command) => {
    const id = randomUUID();
    const [verb = "", ...options] = command;

    expect(await commandLine.json("image", verb, id, ...options)).toMatchObject({
      exitCode: 3,
      answer: undefined,
      failure: { code: "ImageNotFound", message: `No image has the id "${id}"` },
    });
  });

  it("report that the database is unreachable", async () => {
    const DATABASE_URL = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;
    const away = new CommandLine({ dataDir, env: { DATABASE_URL } });
    const id = randomUUID();

    expect(await away.json("image", "show", id)).toEqual({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "DatabaseUnavailable",
        image_id: id,
        message: expect.stringMatching(/^Postgres: connect ECONNREFUSED 127\.0\.0\.1:/) as unknown,
        hint: "Check Postgres and DATABASE_URL; `image-import doctor` helps.",
      },
    });
  });
});
