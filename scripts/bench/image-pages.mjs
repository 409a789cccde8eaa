import { randomBytes, randomInt } from "node:crypto";
import { performance } from "node:perf_hooks";
import postgres from "postgres";
import { ImageImportClient } from "#dist/client/image-import-client.js";
import { migrateDatabase } from "#dist/db/migrate.js";
import { IMAGE_SORT_KEYS } from "#dist/domain/image-filter.js";
import { result } from "./measure.mjs";

const IMAGES = 100_000;
const PAGE = 25;
const GOAL_MS = 20;

/** @typedef {NonNullable<Parameters<ImageImportClient["images"]["list"]>[0]>} ImageFilter */

/**
 * Measurements of pages of long lists: each filter with each sort, from the beginning and from
 * anywhere in the list.
 *
 * @type {import("./cases.mjs").Case[]}
 */
export const PAGE_CASES = [
  {
    name: "image-pages",
    about: `a page of ${PAGE} out of ${IMAGES} images, by each filter and sort key, first and deep`,
    async run(service, { isQuick, rounds }) {
      const perSort = rounds ?? (isQuick ? 10 : 50);
      return withCatalogue(service.stack.addresses.database_url, (client) =>
        measurePages(client, perSort),
      );
    },
  },
];

/**
 * Creates a database with the images, runs the work with it, and drops it.
 *
 * @template T
 * @param {string} serverUrl
 * @param {(client: ImageImportClient) => Promise<T>} work
 */
async function withCatalogue(serverUrl, work) {
  const name = `pages_${randomBytes(4).toString("hex")}`;
  const databaseUrl = Object.assign(new URL(serverUrl), { pathname: `/${name}` }).href;
  const server = postgres(serverUrl, { max: 1, onnotice: () => undefined });
  try {
    await server.unsafe(`CREATE DATABASE ${name}`);
    await migrateDatabase(databaseUrl);
    await fill(databaseUrl);
    const client = await ImageImportClient.connect({ databaseUrl });
    try {
      return await work(client);
    } finally {
      await client.close();
    }
  } finally {
    await server.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    await server.end();
  }
}

/**
 * Fills the catalogue. It has owners of a fifth, a hundredth and a few of the images, few and many
 * values of properties, and common and rare tags.
 *
 * @param {string} databaseUrl
 */
async function fill(databaseUrl) {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => undefined });
  try {
    await sql`SELECT setseed(0.5)`;
    // A random number for each pair, from a hash: random() would give all images the same one for a
    // value of the list.
    const drawn = (/** @type {string} */ text) =>
      sql.unsafe(`(hashtext(id::text || ${text}) & 1048575) / 1048576.0`);
    await sql`
      INSERT INTO images (id, name, owner, status, disk_format, container_format, visibility,
        protected, os_hidden, min_disk, min_ram, size, checksum, os_hash_algo, os_hash_value,
        created_at, updated_at)
      SELECT gen_random_uuid(),
        CASE WHEN random() < 0.98 THEN 'image-' || floor(random() * 5000) END,
        CASE WHEN owner < 0.2 THEN 'large' WHEN owner < 0.21 THEN 'middle'
          WHEN owner < 0.2102 THEN 'small' WHEN owner < 0.31 THEN NULL
          ELSE 'project-' || floor(random() * 300) END,
        CASE WHEN status < 0.01 THEN 'queued' WHEN status < 0.011 THEN 'uploading'
          WHEN status < 0.016 THEN 'deactivated' WHEN status < 0.07 THEN 'deleted' ELSE 'active' END,
        CASE WHEN format < 0.001 THEN 'vdi' WHEN format < 0.3 THEN 'raw' ELSE 'qcow2' END,
        CASE WHEN random() < 0.0005 THEN 'ova' ELSE 'bare' END,
        CASE WHEN seen < 0.002 THEN 'public' WHEN seen < 0.02 THEN 'community'
          WHEN seen < 0.35 THEN 'private' ELSE 'shared' END,
        random() < 0.003, random() < 0.007, floor(random() * 40), 512 * floor(random() * 8),
        floor(1e6 * exp(random() * 10)), md5(n::text), 'sha512', sha512(n::text::bytea)::text,
        now() - random() * interval '1000 days', now() - random() * interval '100 days'
      FROM (SELECT n, random() AS owner, random() AS status, random() AS format, random() AS seen
        FROM generate_series(1, ${IMAGES}::int) AS n) AS drawn`;
    await sql`
      INSERT INTO image_properties (image_id, name, value)
      SELECT id, property.name, value FROM images, LATERAL (VALUES
        ('os_distro', CASE WHEN random() < 0.3 THEN 'ubuntu' ELSE 'distro-' || floor(random() * 20) END),
        ('os_version', (floor(random() * 30))::text),
        ('architecture', CASE WHEN random() < 0.9 THEN 'x86_64' ELSE 'aarch64' END),
        ('hw_disk_bus', 'virtio'), ('hw_qemu_guest_agent', 'yes'),
        ('build_id', id::text),
        ('rare', CASE WHEN random() < 0.0002 THEN 'yes' END)) AS property (name, value)
      WHERE value IS NOT NULL`;
    await sql`
      INSERT INTO image_tags (image_id, tag)
      SELECT id, tag FROM images, LATERAL (VALUES
        ('common', 0.3), ('golden', 0.05), ('rare', 0.0002)) AS known (tag, share)
      WHERE ${drawn("tag")} < share`;
    await sql`
      INSERT INTO image_members (image_id, member, status)
      SELECT id, member, offer.status FROM images, LATERAL (VALUES
        ('member-of-many', 0.2, 'accepted'), ('small', 0.0005, 'accepted'),
        ('small', 0.0005, 'pending'), ('project-' || floor(random() * 300), 0.3, 'pending')
      ) AS offer (member, share, status)
      WHERE visibility = 'shared' AND ${drawn("member || offer.status")} < share
      ON CONFLICT DO NOTHING`;
    await sql`
      INSERT INTO image_locations (image_id, store, epoch, status, node, key, url, size, crc32)
      SELECT id, store, 1, 'active', 'node', id::text, 'file:///' || id, size, 0
      FROM images, LATERAL (VALUES ('fast', 1.0), ('slow', 0.3), ('tape', 0.0005)) AS copy (store, share)
      WHERE status IN ('active', 'deactivated') AND ${drawn("store")} < share`;
    await sql`VACUUM ANALYZE`;
  } finally {
    await sql.end();
  }
}

/**
 * @param {ImageImportClient} client
 * @param {number} perSort - pages for each filter and sort
 */
async function measurePages(client, perSort) {
  const [one] = await client.images.list({ status: "active", limit: 1 });
  if (one === undefined) throw new Error("The catalogue is empty");
  /** @type {import("./measure.mjs").Result[]} */
  const results = [];
  for (const [name, filter] of filtersOf(one)) {
    /** @type {{ sort: string, p50: number, p99: number }[]} */
    const sorts = [];
    for (const key of IMAGE_SORT_KEYS) {
      for (const direction of /** @type {const} */ (["asc", "desc"])) {
        const page = { ...filter, sort: { key, direction }, limit: PAGE };
        const markers = await markersOf(client, filter, key);
        const times = await timesOf(client, page, markers, perSort);
        sorts.push({
          sort: `${key}:${direction}`,
          p50: quantile(times, 0.5),
          p99: quantile(times, 0.99),
        });
      }
    }
    const worst = sorts.toSorted((one, other) => other.p99 - one.p99)[0];
    const note = `p99 of each sort; the slowest is ${worst?.sort ?? ""}, p50 ${(worst?.p50 ?? 0).toFixed(1)} ms`;
    results.push(
      result(name, { measured: sorts.map(({ p99 }) => p99) }, { unit: "ms", goal: GOAL_MS, note }),
    );
  }
  return results;
}

/**
 * Ids of images anywhere in a list: in the order of their ids or times, which are random.
 *
 * @param {ImageImportClient} client
 * @param {ImageFilter} filter
 * @param {string} key - the sort key of the list
 */
async function markersOf(client, filter, key) {
  const sort = /** @type {const} */ ({ key: key === "id" ? "created_at" : "id", direction: "asc" });
  return (await client.images.list({ ...filter, sort, limit: 100 })).map(({ id }) => id);
}

/**
 * Times of pages in ms; every third is the first page, the others begin anywhere.
 *
 * @param {ImageImportClient} client
 * @param {ImageFilter} page
 * @param {readonly string[]} markers
 * @param {number} count
 */
async function timesOf(client, page, markers, count) {
  await client.images.list(page);
  /** @type {number[]} */
  const times = [];
  for (let each = 0; each < count; each += 1) {
    const marker = each % 3 === 0 ? undefined : markers[randomInt(markers.length || 1)];
    const startedAtMs = performance.now();
    await client.images.list({ ...page, marker });
    times.push(performance.now() - startedAtMs);
  }
  return times;
}

/** @param {readonly number[]} values @param {number} share */
function quantile(values, share) {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/**
 * @param {{ name: string | null, id: string, checksum: string | null, os_hash_value: string | null,
 *   created_at: string }} one @returns {[name: string, filter: ImageFilter][]}
 */
function filtersOf(one) {
  const seen = (/** @type {string | null} */ project, community = false) => ({
    hidden: false,
    seenBy: { project, memberStatus: /** @type {const} */ ("accepted"), community },
  });
  const at = new Date(one.created_at);
  return [
    ["no filter", {}],
    ["status active", { status: "active" }],
    ["status uploading", { status: "uploading" }],
    ["status in 3", { status: ["queued", "uploading", "deactivated"] }],
    ["status deleted", { status: "deleted" }],
    ["owner of a fifth", { owner: "large" }],
    ["owner of a few", { owner: "small" }],
    ["no owner", { owner: null }],
    ["name", { name: one.name ?? "" }],
    ["name in 3", { name: ["image-1", "image-2", "absent"] }],
    ["id in 3", { id: [one.id] }],
    ["disk format, common", { diskFormat: "qcow2" }],
    ["disk format, rare", { diskFormat: "vdi" }],
    ["disk format in 2", { diskFormat: ["vdi", "raw"] }],
    ["container format, rare", { containerFormat: "ova" }],
    ["visibility public", { visibility: "public" }],
    ["visibility private", { visibility: "private" }],
    ["protected", { protected: true }],
    ["not protected", { protected: false }],
    ["hidden", { hidden: true }],
    ["not hidden", { hidden: false }],
    ["checksum", { checksum: one.checksum ?? "" }],
    ["hash", { osHashValue: one.os_hash_value ?? "" }],
    ["store, common", { store: "slow" }],
    ["store, rare", { store: "tape" }],
    ["tag, common", { tags: ["common"] }],
    ["tag, rare", { tags: ["rare"] }],
    ["tags, common and golden", { tags: ["common", "golden"] }],
    ["tags, common and rare", { tags: ["common", "rare"] }],
    ["property, common", { properties: { architecture: "x86_64" } }],
    ["property, middle", { properties: { os_distro: "ubuntu" } }],
    ["property, rare", { properties: { rare: "yes" } }],
    ["property, one", { properties: { build_id: one.id } }],
    ["property, none", { properties: { os_distro: "absent" } }],
    ["properties, two", { properties: { os_distro: "distro-1", os_version: "7" } }],
    ["size, large", { sizeMin: 22e9 }],
    ["size, small", { sizeMax: 1.001e6 }],
    ["min_disk", { minDisk: 36 }],
    ["min_disk, range", { minDiskMin: 5, minDiskMax: 15 }],
    ["min_ram, range", { minRamMin: 3584 }],
    ["created eq", { times: [{ field: "created_at", op: "eq", at }] }],
    [
      "created gte",
      { times: [{ field: "created_at", op: "gte", at: new Date(Date.now() - 864e5) }] },
    ],
    [
      "updated lt",
      { times: [{ field: "updated_at", op: "lt", at: new Date(Date.now() - 99 * 864e5) }] },
    ],
    ["seen by a small project", seen("small")],
    ["seen by a small project, community", seen("small", true)],
    ["seen by a large project", seen("large")],
    ["seen by a member of many", seen("member-of-many")],
    ["seen by a stranger", seen("stranger")],
    ["seen without a project", seen(null)],
    ["seen, and a tag", { ...seen("middle"), tags: ["golden"] }],
    ["seen, and a property", { ...seen("middle"), properties: { architecture: "aarch64" } }],
    ["seen, shared", { ...seen("member-of-many"), visibility: "shared" }],
    [
      "seen, active qcow2 of an owner",
      { ...seen("large"), status: "active", diskFormat: "qcow2", owner: "large" },
    ],
  ];
}
