import { randomUUID } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { listImages } from "../../src/db/image-list.ts";
import { imageMembers, imageProperties, images, imageTags } from "../../src/db/schema.ts";
import type { CONTAINER_FORMATS, DISK_FORMATS } from "../../src/domain/disk-format.ts";
import {
  IMAGE_SORT_KEYS,
  type ImageFilter,
  type Sort,
  type TimeCondition,
} from "../../src/domain/image-filter.ts";
import {
  MEMBER_STATUSES,
  VISIBILITIES,
  type MemberStatus,
  type Visibility,
} from "../../src/domain/visibility.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

const STATUSES = ["queued", "uploading", "pending_delete", "deleted"] as const;
const SECOND = Date.parse("2026-03-01T10:00:00Z");

/** An image in memory: few values of each field, so that many are equal. */
interface Known {
  readonly id: string;
  readonly name: string | null;
  readonly owner: string | null;
  readonly status: (typeof STATUSES)[number];
  readonly diskFormat: (typeof DISK_FORMATS)[number] | null;
  readonly containerFormat: (typeof CONTAINER_FORMATS)[number] | null;
  readonly visibility: Visibility;
  readonly protected: boolean;
  readonly osHidden: boolean;
  readonly minDisk: number;
  readonly minRam: number;
  readonly sizeBytes: number | null;
  readonly checksum: string;
  readonly osHashAlgo: string;
  readonly osHashValue: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly tags: readonly string[];
  readonly properties: Readonly<Record<string, string>>;
  readonly members: Readonly<Record<string, MemberStatus>>;
}

/** Numbers without a pattern, the same ones in every run. */
function numbersFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const LONG = "x".repeat(100);
const VALUES = ["", "a", "b", LONG, `${LONG}1`, `${LONG}2`];

function manyImages(): Known[] {
  const below = numbersFrom(12);
  const one = <T>(values: readonly T[]): T => values[below(values.length)] as T;
  return Array.from({ length: 200 }, () => ({
    id: randomUUID(),
    name: one([null, "", "debian", "fedora", "ubuntu"]),
    owner: one([null, "ann", "bob", "eve"]),
    status: one(STATUSES),
    diskFormat: one([null, "raw", "qcow2", "vmdk"] as const),
    containerFormat: one([null, "bare", "ova"] as const),
    visibility: one(VISIBILITIES),
    protected: one([true, false]),
    osHidden: one([true, false]),
    minDisk: below(4),
    minRam: 256 * below(4),
    sizeBytes: one([null, 0, 1, 2, 3 * 2 ** 40]),
    checksum: one(["c1", "c2"]),
    osHashAlgo: "sha512",
    osHashValue: one(["h1", "h2"]),
    createdAt: new Date(SECOND + 400 * below(10)),
    updatedAt: new Date(SECOND + 10_000 + 400 * below(10)),
    tags: ["golden", "old", "it's"].filter(() => below(2) === 1),
    properties: Object.fromEntries(
      ["os", "arch"].flatMap((name) => (below(2) === 1 ? [[name, one(VALUES)]] : [])),
    ),
    members: Object.fromEntries(
      ["ann", "bob"].flatMap((member) => (below(2) === 1 ? [[member, one(MEMBER_STATUSES)]] : [])),
    ),
  }));
}

/** Two hundred images, written and in memory. */
async function written(): Promise<Known[]> {
  const known = manyImages();
  await catalogue.database.transaction(async (db) => {
    await db.delete(imageMembers);
    await db.delete(imageTags);
    await db.delete(imageProperties);
    await db.delete(images);
    await db.insert(images).values(known);
    await db
      .insert(imageTags)
      .values(known.flatMap(({ id, tags }) => tags.map((tag) => ({ imageId: id, tag }))));
    await db
      .insert(imageProperties)
      .values(
        known.flatMap(({ id, properties }) =>
          Object.entries(properties).map(([name, value]) => ({ imageId: id, name, value })),
        ),
      );
    await db
      .insert(imageMembers)
      .values(
        known.flatMap(({ id, members }) =>
          Object.entries(members).map(([member, status]) => ({ imageId: id, member, status })),
        ),
      );
  });
  return known;
}

const KEYS: Readonly<Record<(typeof IMAGE_SORT_KEYS)[number], (image: Known) => string | number>> =
  {
    created_at: (image) => image.createdAt.getTime(),
    updated_at: (image) => image.updatedAt.getTime(),
    name: (image) => image.name ?? "",
    owner: (image) => image.owner ?? "",
    status: (image) => image.status,
    size: (image) => image.sizeBytes ?? 0,
    disk_format: (image) => image.diskFormat ?? "",
    container_format: (image) => image.containerFormat ?? "",
    id: (image) => image.id,
  };

type ImageSort = Sort<(typeof IMAGE_SORT_KEYS)[number]>;

/** The order in words of this test: keys, then `created_at` and `id`. */
function inOrder(known: readonly Known[], sorts: readonly ImageSort[]): Known[] {
  const isAscending = sorts.length > 0 && sorts.every(({ direction }) => direction === "asc");
  const direction = isAscending ? "asc" : "desc";
  const all = [
    ...sorts,
    { key: "created_at" as const, direction },
    { key: "id" as const, direction },
  ];
  return known.toSorted((one, other) => {
    for (const { key, direction: way } of all) {
      const [left, right] = [KEYS[key](one), KEYS[key](other)];
      if (left !== right) return left < right === (way === "asc") ? -1 : 1;
    }
    return 0;
  });
}

const isAlive = ({ status }: Known): boolean => status !== "deleted";
const secondsOf = (time: Date): number => Math.floor(time.getTime() / 1000);
const at = (ms: number): Date => new Date(SECOND + ms);

function timeRow(op: TimeCondition["op"], ms: number, isRight: (second: number) => boolean): Row {
  return [
    `created_at ${op} ${String(ms)} ms`,
    { times: [{ field: "created_at", op, at: at(ms) }] },
    (image) => isAlive(image) && isRight(secondsOf(image.createdAt) - SECOND / 1000),
  ];
}

type Row = readonly [what: string, filter: ImageFilter, isChosen: (image: Known) => boolean];

function alive(what: string, filter: ImageFilter, isChosen: (image: Known) => boolean): Row {
  return [what, filter, (image) => isAlive(image) && isChosen(image)];
}

/** The reference of who sees what. */
function seen(project: string, memberStatus: MemberStatus | "all", community: boolean): Row {
  const answers: readonly unknown[] = memberStatus === "all" ? MEMBER_STATUSES : [memberStatus];
  return alive(
    `seen by ${project}, ${memberStatus}, ${community ? "with" : "without"} community`,
    { seenBy: { project, memberStatus, community } },
    (image) =>
      image.visibility === "public" ||
      image.owner === project ||
      (image.visibility === "shared" && answers.includes(image.members[project])) ||
      (community && image.visibility === "community"),
  );
}

const FILTERS: readonly Row[] = [
  alive("nothing", {}, () => true),
  ["one status", { status: "uploading" }, ({ status }) => status === "uploading"],
  ["deleted ones", { status: "deleted" }, ({ status }) => status === "deleted"],
  [
    "several statuses",
    { status: ["queued", "deleted"] },
    ({ status }) => status === "queued" || status === "deleted",
  ],
  ["no status", { status: [] }, () => false],
  alive("one owner", { owner: "ann" }, ({ owner }) => owner === "ann"),
  alive("no owner", { owner: null }, ({ owner }) => owner === null),
  alive("one name", { name: "debian" }, ({ name }) => name === "debian"),
  alive("an empty name", { name: "" }, ({ name }) => name === ""),
  alive("several names", { name: ["", "ubuntu", "other"] }, ({ name }) =>
    ["", "ubuntu"].includes(name ?? "none"),
  ),
  alive("a disk format", { diskFormat: "raw" }, ({ diskFormat }) => diskFormat === "raw"),
  alive("disk formats", { diskFormat: ["vmdk", "qcow2"] }, ({ diskFormat }) =>
    ["vmdk", "qcow2"].includes(diskFormat ?? ""),
  ),
  alive(
    "a container format",
    { containerFormat: "ova" },
    (image) => image.containerFormat === "ova",
  ),
  alive("container formats", { containerFormat: ["ova", "bare"] }, (image) =>
    ["ova", "bare"].includes(image.containerFormat ?? ""),
  ),
  ...VISIBILITIES.map((visibility) =>
    alive(visibility, { visibility }, (image) => image.visibility === visibility),
  ),
  alive("protected ones", { protected: true }, (image) => image.protected),
  alive("unprotected ones", { protected: false }, (image) => !image.protected),
  alive("hidden ones", { hidden: true }, (image) => image.osHidden),
  alive("visible ones", { hidden: false }, (image) => !image.osHidden),
  alive("a checksum", { checksum: "c1" }, ({ checksum }) => checksum === "c1"),
  alive("a hash", { osHashValue: "h2" }, ({ osHashValue }) => osHashValue === "h2"),
  alive("a size of one at least", { sizeMin: 1 }, ({ sizeBytes }) => (sizeBytes ?? 0) >= 1),
  alive("a size from zero", { sizeMin: 0 }, ({ sizeBytes }) => sizeBytes !== null),
  alive(
    "a size up to one",
    { sizeMax: 1 },
    ({ sizeBytes }) => sizeBytes !== null && sizeBytes <= 1,
  ),
  alive("a large size", { sizeMin: 2 ** 41 }, ({ sizeBytes }) => (sizeBytes ?? 0) >= 2 ** 41),
  alive("a disk", { minDisk: 2 }, ({ minDisk }) => minDisk === 2),
  alive("disks", { minDiskMin: 1, minDiskMax: 2 }, ({ minDisk }) => minDisk === 1 || minDisk === 2),
  alive("a memory", { minRam: 256 }, ({ minRam }) => minRam === 256),
  alive("memories", { minRamMin: 256, minRamMax: 512 }, ({ minRam }) =>
    [256, 512].includes(minRam),
  ),
  alive("a tag", { tags: ["it's"] }, ({ tags }) => tags.includes("it's")),
  alive(
    "two tags",
    { tags: ["golden", "old"] },
    ({ tags }) => tags.includes("golden") && tags.includes("old"),
  ),
  ...VALUES.map((os) =>
    alive(
      `a property of ${String(os.length)} characters`,
      { properties: { os } },
      ({ properties }) => properties["os"] === os,
    ),
  ),
  alive(
    "two properties",
    { properties: { os: "a", arch: "b" } },
    ({ properties }) => properties["os"] === "a" && properties["arch"] === "b",
  ),
  timeRow("gt", 1000, (second) => second > 1),
  timeRow("gte", 1000, (second) => second >= 1),
  timeRow("lt", 1000, (second) => second < 1),
  timeRow("lte", 1000, (second) => second <= 1),
  timeRow("eq", 1000, (second) => second === 1),
  timeRow("neq", 1000, (second) => second !== 1),
  timeRow("gt", 1500, (second) => second > 1.5),
  timeRow("gte", 1500, (second) => second >= 1.5),
  timeRow("lt", 1500, (second) => second < 1.5),
  timeRow("lte", 1500, (second) => second <= 1.5),
  timeRow("eq", 1500, () => false),
  timeRow("neq", 1500, () => true),
  alive(
    "two times",
    {
      times: [
        { field: "created_at", op: "gte", at: at(1000) },
        { field: "updated_at", op: "lt", at: at(12_000) },
      ],
    },
    ({ createdAt, updatedAt }) => createdAt >= at(1000) && updatedAt < at(12_000),
  ),
  ...(["ann", "stranger"] as const).flatMap((project) =>
    ([...MEMBER_STATUSES, "all"] as const).flatMap((memberStatus) =>
      [true, false].map((community) => seen(project, memberStatus, community)),
    ),
  ),
  alive(
    "what a caller without a project sees",
    { seenBy: { project: null, memberStatus: "all", community: true } },
    ({ visibility }) => visibility === "public" || visibility === "community",
  ),
  alive(
    "shared images that a caller sees, by name",
    {
      name: ["debian", "fedora"],
      visibility: "shared",
      hidden: false,
      seenBy: { project: "bob", memberStatus: "accepted", community: false },
    },
    ({ name, visibility, osHidden, owner, members }) =>
      (name === "debian" || name === "fedora") &&
      visibility === "shared" &&
      !osHidden &&
      (owner === "bob" || members["bob"] === "accepted"),
  ),
];

const ONE_KEY: readonly (readonly ImageSort[])[] = IMAGE_SORT_KEYS.flatMap((key) =>
  (["asc", "desc"] as const).map((direction) => [{ key, direction }]),
);
const SORTS: readonly (readonly ImageSort[])[] = [
  [],
  ...ONE_KEY,
  [
    { key: "name", direction: "asc" },
    { key: "size", direction: "asc" },
  ],
  [
    { key: "name", direction: "asc" },
    { key: "size", direction: "desc" },
  ],
  [
    { key: "status", direction: "desc" },
    { key: "created_at", direction: "asc" },
    { key: "name", direction: "asc" },
  ],
  [
    { key: "container_format", direction: "desc" },
    { key: "id", direction: "asc" },
  ],
];

describe("listImages(), compared to the same list in memory", () => {
  /** The ids of a list, page after page. */
  async function walk(filter: ImageFilter): Promise<string[]> {
    const ids: string[] = [];
    for (let marker: string | undefined; ; marker = ids.at(-1)) {
      const page = marker === undefined ? filter : { ...filter, marker };
      const records = await catalogue.database.query((db) => listImages(db, page));
      ids.push(...records.map(({ image }) => image.id));
      if (records.length < (filter.limit ?? 100)) return ids;
    }
  }

  let known: Known[];
  beforeAll(async () => {
    known = await written();
  });

  it.for(FILTERS)("chooses by %s, and orders by each sort", async ([, filter, isChosen]) => {
    const chosen = known.filter(isChosen);
    for (const sort of SORTS) {
      const expected = inOrder(chosen, sort).map(({ id }) => id);
      const limit = Math.ceil(expected.length / 3) + 1;
      const said = `sorted by ${JSON.stringify(sort)}`;
      expect(await walk({ ...filter, sort, limit }), said).toEqual(expected);
    }
  });

  it("continues after every single image of a list with many equal ones", async () => {
    for (const sort of SORTS) {
      const expected = inOrder(known.filter(isAlive), sort).map(({ id }) => id);
      expect(await walk({ sort, limit: 17 })).toEqual(expected);
    }
  });

  it("chooses by ids", async () => {
    const alive = known.filter(isAlive);
    const id = alive.slice(3, 6).map((image) => image.id);

    const found = await walk({ id: [...id, randomUUID()], limit: 2 });

    expect(found.toSorted()).toEqual(id.toSorted());
    expect(await walk({ id: [] })).toEqual([]);
  });

  it("has an empty page of no images", async () => {
    expect(await catalogue.database.query((db) => listImages(db, { limit: 0 }))).toEqual([]);
  });

  it("takes no marker that the caller does not see", async () => {
    const marker = known
      .filter(isAlive)
      .find(({ owner, visibility }) => owner === "eve" && visibility === "private");
    const seenBy = { project: "ann", memberStatus: "all", community: true } as const;

    const failure = await failureOf(walk({ marker: marker?.id, seenBy }));

    expect(failure).toMatchObject({ code: "BadRequest" });
  });
});
