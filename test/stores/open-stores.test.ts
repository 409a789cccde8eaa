import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { newPartName } from "../../src/bytes/part-name.ts";
import { FileStore } from "../../src/stores/file-store.ts";
import type { S3StoreSettings, StoreSettings } from "../../src/domain/store-settings.ts";
import { Stores } from "../../src/stores/open-stores.ts";
import { S3Store } from "../../src/stores/s3-store.ts";
import { storeKey, type Store } from "../../src/stores/store.ts";
import { failureOf } from "../support/failure-of.ts";
import { HostileOrigin } from "../support/hostile-origin.ts";
import { ORIGIN_CERTIFICATE } from "../support/origin-certificate.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { mountReadOnlyVolume, MAY_MOUNT } from "../support/volume.ts";
import { orderOf, stage } from "./staged-source.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
const KEY = storeKey(IMAGE_ID, 1);

const S3: S3StoreSettings = {
  type: "s3",
  bucket: "images",
  prefix: "glance/",
  region: "us-east-1",
  endpoint: "http://127.0.0.1:9",
  pathStyle: true,
  checksums: "when_required",
  partSizeBytes: 5 * 1024 ** 2,
  partsInFlight: 1,
};

const SETTINGS = {
  slow: { type: "file", path: "/srv/slow", zeroCopy: false, bandwidthLimit: 1_000_000 },
  fast: { type: "file", path: "/srv/fast", zeroCopy: true },
  objects: S3,
  archive: { type: "file", path: "/srv/archive", zeroCopy: true, readOnly: true },
  gone: { type: "file", path: "/srv/gone", zeroCopy: true, disabled: true },
  far: { ...S3, prefix: "", disabled: true },
} as const satisfies Record<string, StoreSettings>;

describe("Stores", () => {
  it("knows the stores of the configuration, in its order", async () => {
    const stores = await Stores.open(SETTINGS, "fast");

    expect([stores.names, stores.writableNames, stores.defaultName]).toEqual([
      ["slow", "fast", "objects", "archive"],
      ["slow", "fast", "objects"],
      "fast",
    ]);
  });

  it("describes all of them, also the disabled ones", async () => {
    const stores = await Stores.open(SETTINGS, "fast");

    const plain = { isReadOnly: false, isDisabled: false };
    expect(stores.descriptions).toEqual([
      { name: "slow", type: "file", location: "/srv/slow", ...plain },
      { name: "fast", type: "file", location: "/srv/fast", ...plain },
      { name: "objects", type: "s3", location: "s3://images/glance/", ...plain },
      { name: "archive", type: "file", location: "/srv/archive", ...plain, isReadOnly: true },
      { name: "gone", type: "file", location: "/srv/gone", ...plain, isDisabled: true },
      { name: "far", type: "s3", location: "s3://images/", ...plain, isDisabled: true },
    ]);
  });
});

describe("Stores.get()", () => {
  it("gives a store by its name, always the same", async () => {
    const stores = await Stores.open(SETTINGS, "fast");

    const store = stores.get("slow");

    expect({ name: store.name, kind: store.kind, url: store.urlOf("key") }).toEqual({
      name: "slow",
      kind: "file",
      url: "file:///srv/slow/key",
    });
    expect(stores.get("slow")).toBe(store);
  });

  it("gives each kind of store", async () => {
    const stores = await Stores.open(SETTINGS, "fast");

    const store = stores.get("objects");

    expect([stores.get("fast"), store]).toEqual([expect.any(FileStore), expect.any(S3Store)]);
    expect({ name: store.name, url: store.urlOf("key") }).toEqual({
      name: "objects",
      url: "s3://images/glance/key",
    });
  });

  it.each(["", "Fast", "constructor"])(
    "refuses the name %j, naming those there are",
    async (name) => {
      const stores = await Stores.open(SETTINGS, "fast");

      expect(() => stores.get(name)).toThrow(
        expect.objectContaining({
          code: "UnknownStore",
          message: `Cannot find store "${name}": the configured stores are "slow", "fast", "objects", "archive", "gone", "far"`,
        }),
      );
    },
  );

  it("fails for a disabled store as for an unreachable one", async () => {
    const stores = await Stores.open(SETTINGS, "fast");

    expect(() => stores.get("gone")).toThrow(
      expect.objectContaining({
        code: "StoreUnavailable",
        retryable: true,
        message: 'Cannot use store "gone": it is disabled',
      }),
    );
  });
});

describe("Stores.requireWritable()", () => {
  it("lets a store pass that takes images", async () => {
    const stores = await Stores.open(SETTINGS, "fast");

    expect(() => {
      stores.requireWritable("objects");
    }).not.toThrow();
  });

  it.each([
    ["archive", "BadRequest", 'Cannot import into store "archive": it is read-only'],
    ["gone", "BadRequest", 'Cannot import into store "gone": it is disabled'],
    [
      "tape",
      "UnknownStore",
      expect.stringMatching(/^Cannot find store "tape": the configured stores are /) as unknown,
    ],
  ])("refuses %s permanently", async (name, code, message) => {
    const stores = await Stores.open(SETTINGS, "fast");

    expect(() => {
      stores.requireWritable(name);
    }).toThrow(expect.objectContaining({ code, retryable: false, message }));
  });
});

describe("a read-only store", () => {
  async function openReadOnly(path = makeTemporaryDirectory()): Promise<Store> {
    const archive = { type: "file", path, zeroCopy: true, readOnly: true } as const;
    return (await Stores.open({ archive }, "archive")).get("archive");
  }

  it("is read like any other", async () => {
    const path = makeTemporaryDirectory();
    await writeFile(join(path, KEY), "bytes");
    const store = await openReadOnly(path);

    await using copy = await store.open(KEY);

    expect({
      name: store.name,
      kind: store.kind,
      url: store.urlOf(KEY),
      found: (await store.find(KEY))?.sizeBytes,
      sizeBytes: copy.sizeBytes,
    }).toEqual({
      name: "archive",
      kind: "file",
      url: `file://${path}/${KEY}`,
      found: 5,
      sizeBytes: 5,
    });
  });

  it.each<[string, (store: Store) => Promise<unknown>]>([
    ["copy()", async (store) => store.copy(orderOf(await stage(Buffer.from("bytes"))))],
    ["remove()", async (store) => store.remove([KEY])],
  ])("refuses %s, and is as it was", async (_, work) => {
    const path = makeTemporaryDirectory();
    await writeFile(join(path, KEY), "theirs");
    const store = await openReadOnly(path);

    const failure = await failureOf(work(store));

    expect(failure).toMatchObject({
      code: "PermissionDenied",
      retryable: false,
      message: 'Cannot write to store "archive": it is read-only',
    });
    expect(await store.find(KEY)).toMatchObject({ sizeBytes: 6 });
  });

  it("removes names that are not there, and refuses to remove a part", async () => {
    const path = makeTemporaryDirectory();
    const part = newPartName(IMAGE_ID, 1);
    const store = await openReadOnly(path);

    await expect(store.remove([part, KEY])).resolves.toBeUndefined();
    await writeFile(join(path, part), "bytes");

    expect(await failureOf(store.remove([part, KEY]))).toMatchObject({ code: "PermissionDenied" });
    expect(await readdir(path)).toEqual([part]);
  });

  it("has nothing to sweep", async () => {
    const path = makeTemporaryDirectory();
    await writeFile(join(path, newPartName(IMAGE_ID, 1)), "");
    const store = await openReadOnly(path);

    expect(await store.listParts(-60_000)).toEqual([]);
    await expect(store.remove([])).resolves.toBeUndefined();
  });

  it("works when it can be read, tried or not", async ({ skip }) => {
    if (!MAY_MOUNT) skip("this user may not mount file systems");
    const store = await openReadOnly(await mountReadOnlyVolume());

    const freeBytes = expect.any(Number) as number;
    expect(await store.check()).toEqual({ works: true, freeBytes });
    expect(await store.check("trial")).toEqual({ works: true, freeBytes });
  });

  it("names itself in the failure of its preparation", async () => {
    const path = join(makeTemporaryDirectory(), "file");
    await writeFile(path, "");
    const store = await openReadOnly(path);

    expect(await failureOf(store.prepare())).toMatchObject({
      code: "StoreUnavailable",
      message: 'Cannot use store "archive": not a directory',
    });
  });

  it("does not work when it is unreachable", async () => {
    const path = join(makeTemporaryDirectory(), "not-mounted");

    expect(await (await openReadOnly(path)).check()).toMatchObject({ works: false });
  });
});

describe("Stores.open()", () => {
  it("opens a store whose directory is missing", async () => {
    const path = join(makeTemporaryDirectory(), "not-mounted-yet");
    const stores = await Stores.open({ late: { type: "file", path, zeroCopy: true } }, "late");
    await mkdir(path);

    expect(await stores.get("late").check()).toMatchObject({ works: true });
  });
});

describe("an s3 store whose server has a certificate of its own authority", () => {
  async function openTls(caFile?: string): Promise<Store> {
    vi.stubEnv("AWS_ACCESS_KEY_ID", "key");
    vi.stubEnv("AWS_SECRET_ACCESS_KEY", "of a test");
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const server = await HostileOrigin.start(
      async (exchange) => {
        exchange.head(404, { "content-length": 0 });
      },
      { tls: ORIGIN_CERTIFICATE },
    );
    const endpoint = server.url("");
    const stores = await Stores.open({ objects: { ...S3, endpoint, caFile } }, "objects");
    return stores.get("objects");
  }

  it("is trusted when `ca_file` names the authority", async () => {
    const caFile = join(makeTemporaryDirectory(), "authority.pem");
    await writeFile(caFile, ORIGIN_CERTIFICATE.cert);

    const store = await openTls(caFile);

    expect(await store.find(KEY)).toBeUndefined();
  });

  it("is not trusted otherwise, and the hint names `ca_file`", async () => {
    const store = await openTls();

    expect(await failureOf(store.find(KEY))).toMatchObject({
      code: "StoreUnavailable",
      message: expect.stringContaining(
        "its certificate comes from an authority that the worker does not trust (DEPTH_ZERO_SELF_SIGNED_CERT)",
      ) as string,
      hint: expect.stringContaining("`stores.objects.ca_file`") as string,
    });
  });

  it("is not opened when the file of `ca_file` cannot be read", async () => {
    const caFile = join(makeTemporaryDirectory(), "nothing.pem");

    expect(await failureOf(openTls(caFile))).toMatchObject({
      code: "BadConfiguration",
      message: expect.stringContaining(`"${caFile}" of \`stores.objects.ca_file\``) as string,
    });
  });
});
