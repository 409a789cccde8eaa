import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { exactSize, fields, imageFields, json, table, taskFields } from "../../src/cli/render.ts";
import type { ImageView, TaskView } from "../../src/client/image-view.ts";

const NOW = new Date("2026-11-25T23:00:13.950Z");

beforeAll(() => {
  vi.stubEnv("TZ", "UTC");
});

afterAll(() => {
  vi.unstubAllEnvs();
});

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
const TASK_ID = "0d1f6f6a-7a55-4d6c-8f62-c2b9f27ce0d2";

const NEW_IMAGE: ImageView = {
  id: IMAGE_ID,
  name: null,
  owner: null,
  status: "queued",
  disk_format: null,
  container_format: null,
  visibility: "shared",
  protected: false,
  os_hidden: false,
  min_disk: 0,
  min_ram: 0,
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
  is_direct_upload: false,
  properties: {},
  tags: [],
  created_at: "2026-11-25T20:00:13.950Z",
  updated_at: "2026-11-25T20:00:13.950Z",
};

const ACTIVE_IMAGE: ImageView = {
  ...NEW_IMAGE,
  name: "debian",
  owner: "alice",
  status: "active",
  disk_format: "qcow2",
  container_format: "bare",
  size: 1_610_612_736,
  virtual_size: 10_737_418_240,
  checksum: "d41d8cd98f00b204e9800998ecf8427e",
  os_hash_algo: "sha512",
  os_hash_value: "cf83e1357eef",
  stores: ["fast", "slow"],
  locations: [
    { store: "fast", url: "file:///fast/1", damage: null },
    { store: "slow", url: "file:///slow/1", damage: null },
  ],
  properties: { os: "linux" },
  tags: ["bullseye", "golden"],
  updated_at: "2026-11-25T20:01:05.746Z",
};

const RUNNING_TASK: TaskView = {
  id: TASK_ID,
  type: "api_image_import",
  status: "processing",
  image_id: IMAGE_ID,
  owner: null,
  workflow_id: `image-import/${IMAGE_ID}`,
  run_id: "01a2144b",
  request_id: null,
  user_id: null,
  input: { image_id: IMAGE_ID },
  result: null,
  message: "",
  failure: null,
  created_at: "2026-11-25T20:00:13.950Z",
  updated_at: "2026-11-25T20:00:14.100Z",
  expires_at: null,
};

describe("json()", () => {
  it("is one document, ended by a newline", () => {
    expect(json({ id: 1, tags: ["a"] })).toBe('{\n  "id": 1,\n  "tags": [\n    "a"\n  ]\n}\n');
  });
});

describe("table()", () => {
  it("aligns its columns by their widest cell, and ends no line with blanks", () => {
    const text = table(
      ["NAME", "STATE"],
      [
        ["local", "works"],
        ["a-long-name", ""],
      ],
    );

    expect(text).toBe(["NAME         STATE", "local        works", "a-long-name", ""].join("\n"));
  });

  it("is its heading when there is nothing", () => {
    expect(table(["ID", "NAME"], [])).toBe("ID  NAME\n");
  });
});

describe("fields()", () => {
  it("aligns the values, and shows an unknown value as -", () => {
    const text = fields([
      ["id", "one"],
      ["size", 0],
      ["owner", null],
      ["checksum", undefined],
    ]);

    expect(text).toBe(
      ["id        one", "size      0", "owner     -", "checksum  -", ""].join("\n"),
    );
  });
});

describe("exactSize()", () => {
  it("renders a size rounded, and to the byte", () => {
    expect(exactSize(1_610_612_736)).toBe("1.5 GiB (1610612736 bytes)");
  });

  it("renders no size as -", () => {
    expect(exactSize(null)).toBe("-");
  });
});

describe("imageFields()", () => {
  it("shows an image without data", () => {
    expect(imageFields(NEW_IMAGE, NOW)).toBe(
      [
        `id                ${IMAGE_ID}`,
        "name              -",
        "owner             -",
        "status            queued",
        "disk_format       -",
        "container_format  -",
        "visibility        shared",
        "protected         no",
        "size              -",
        "virtual_size      -",
        "checksum          -",
        "os_hash_algo      -",
        "os_hash_value     -",
        "tags              -",
        "created_at        2026-11-25 20:00:13 (3 h ago)",
        "updated_at        2026-11-25 20:00:13 (3 h ago)",
        "",
      ].join("\n"),
    );
  });

  it("shows where the bytes of an active image lie, its properties and its tags", () => {
    expect(imageFields(ACTIVE_IMAGE, NOW)).toBe(
      [
        `id                ${IMAGE_ID}`,
        "name              debian",
        "owner             alice",
        "status            active",
        "disk_format       qcow2",
        "container_format  bare",
        "visibility        shared",
        "protected         no",
        "size              1.5 GiB (1610612736 bytes)",
        "virtual_size      10 GiB (10737418240 bytes)",
        "checksum          d41d8cd98f00b204e9800998ecf8427e",
        "os_hash_algo      sha512",
        "os_hash_value     cf83e1357eef",
        "in fast           file:///fast/1",
        "in slow           file:///slow/1",
        "property os       linux",
        "tags              bullseye, golden",
        "created_at        2026-11-25 20:00:13 (3 h ago)",
        "updated_at        2026-11-25 20:01:05 (2 h ago)",
        "",
      ].join("\n"),
    );
  });

  it("shows the task that imports it, its stores, and those that failed before", () => {
    const importing: ImageView = {
      ...NEW_IMAGE,
      status: "importing",
      os_glance_importing_to_stores: ["fast", "slow"],
      os_glance_failed_import: ["tape"],
      os_glance_import_task: TASK_ID,
    };

    expect(imageFields(importing, NOW)).toContain(
      [
        "importing to      fast, slow",
        "failed import to  tape",
        `import task       ${TASK_ID}`,
        "",
      ].join("\n"),
    );
  });
});

describe("taskFields()", () => {
  it("shows a task that runs", () => {
    expect(taskFields(RUNNING_TASK, NOW)).toBe(
      [
        `id           ${TASK_ID}`,
        "type         api_image_import",
        "status       processing",
        `image_id     ${IMAGE_ID}`,
        "owner        -",
        `workflow_id  image-import/${IMAGE_ID}`,
        "run_id       01a2144b",
        `input        {"image_id":"${IMAGE_ID}"}`,
        "result       -",
        "message      -",
        "created_at   2026-11-25 20:00:13 (3 h ago)",
        "updated_at   2026-11-25 20:00:14 (2 h ago)",
        "expires_at   -",
        "",
      ].join("\n"),
    );
  });

  it("shows the result of one that succeeded", () => {
    const text = taskFields(
      {
        ...RUNNING_TASK,
        status: "success",
        result: { image_id: IMAGE_ID },
        expires_at: "2026-11-27T20:00:14.100Z",
      },
      NOW,
    );

    expect(text).toContain(`result       {"image_id":"${IMAGE_ID}"}\n`);
    expect(text).toContain("expires_at   2026-11-27 20:00:14 (in 1 d)\n");
  });
});

describe("fields() on a terminal", () => {
  it("shows control characters as escapes", () => {
    expect(fields([["message", "no\u001b[2J"]], 80)).toBe("message  no\\u001b[2J\n");
  });

  it("wraps a text whose letters and accents are characters of their own", () => {
    const text = `${"e\u0301".repeat(10)} ${"a".repeat(30)}`;

    expect(fields([["name", text]], 30)).toBe(
      `name  ${"\u00e9".repeat(10)}\n  ${"a".repeat(30)}\n`,
    );
  });
});
