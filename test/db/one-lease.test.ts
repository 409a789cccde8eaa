import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import postgres from "postgres";
import { describe, expect, it, onTestFinished } from "vitest";
import { Database, type Queries } from "../../src/db/connect.ts";
import { releaseClaim } from "../../src/db/claim-records.ts";
import {
  dropLease,
  findLease,
  finishLease,
  listAbandonedLeases,
  requireLease,
  takeLease,
  type LeaseId,
} from "../../src/db/lease-records.ts";
import { recordSaved } from "../../src/db/outcome-records.ts";
import { findStaged, findStagedSource, knownDigests } from "../../src/db/staged-facts.ts";
import { dropStaging, finishStaging, renewStaging } from "../../src/db/upload-records.ts";
import type { Place } from "../../src/domain/place.ts";
import { SOME_DIGESTS, SOME_FINGERPRINT } from "../support/catalogue.ts";
import { createEmptyTestDatabase } from "../support/database.ts";

const WRITER = { machine: "@m", bootId: "boot", pidNamespace: "pid:[1]", pid: 7, startTicks: 9 };
const ATTEMPT = { run: "run", activity: 3, attempt: 1, scheduledAtMs: 1000 };
const SOURCE = {
  url: "http://a.test/b",
  validator: '"1"',
  sizeBytes: 4096,
  syncedBytes: 512,
  bootId: "boot",
};
const PART = expect.stringMatching(/^[0-9a-f-]{36}\.3\.12345678\.part$/) as string;
const NODE = "0123456789ab";
const EPOCH = 3;

function migrations(): string[] {
  const path = new URL("../../src/db/migrations/meta/_journal.json", import.meta.url);
  const { entries } = JSON.parse(readFileSync(path, "utf8")) as { entries: { tag: string }[] };
  return entries.map(({ tag }) => tag);
}

async function migrate(sql: postgres.Sql, tag: string): Promise<void> {
  const path = new URL(`../../src/db/migrations/${tag}.sql`, import.meta.url);
  const statements = readFileSync(path, "utf8").split("--> statement-breakpoint");
  await sql.begin(async (transaction) => {
    for (const statement of statements) await transaction.unsafe(statement);
  });
}

/** A database as it was before all leases were in one table. */
async function earlierDatabase() {
  const testDatabase = await createEmptyTestDatabase();
  const { url } = testDatabase;
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  const database = new Database({ url });
  onTestFinished(async () => {
    await database.close();
    await sql.end({ timeout: 1 });
    await testDatabase.drop();
  });
  const [before, after] = [
    migrations().filter((tag) => tag < "0008"),
    migrations().filter((tag) => tag >= "0008"),
  ];
  for (const tag of before) await migrate(sql, tag);
  const inTransaction = <T>(work: (db: Queries) => Promise<T>): Promise<T> =>
    database.transaction(work);
  const upgrade = async (): Promise<void> => {
    for (const tag of after) await migrate(sql, tag);
  };
  return { sql, inTransaction, upgrade };
}

/** An image that an import holds, or one that waits for its upload. */
async function anImage(sql: postgres.Sql, status: "importing" | "uploading") {
  const imageId = randomUUID();
  const claim = { imageId, workflowId: "workflow", runId: randomUUID(), epoch: EPOCH };
  await sql`INSERT INTO images (id, status, epoch) VALUES (${imageId}, 'queued', ${EPOCH})`;
  if (status === "uploading") {
    await sql`UPDATE images SET status = 'uploading' WHERE id = ${imageId}`;
  } else {
    await sql`UPDATE images SET status = 'importing', claim_task_id = ${randomUUID()},
      claim_workflow_id = ${claim.workflowId}, claim_run_id = ${claim.runId},
      claim_earlier_status = 'uploading' WHERE id = ${imageId}`;
  }
  return claim;
}

interface OldStaged {
  readonly product?: number;
  readonly epoch?: number | null;
  readonly isWhole?: boolean;
  readonly ours?: boolean;
  readonly isDownload?: boolean;
}

/** Inserts a row of `staged_files` as it was. Returns the token of its writer. */
async function oldStaged(
  sql: postgres.Sql,
  imageId: string,
  { product = 0, epoch = null, isWhole = false, ours = true, isDownload = false }: OldStaged,
): Promise<string> {
  const token = randomUUID();
  const facts = isWhole
    ? { size: 4096, fingerprint: SOME_FINGERPRINT, staged_at: new Date(), part: null }
    : { size: null, fingerprint: null, staged_at: null, part: `part-${product}` };
  const row = {
    image_id: imageId,
    product,
    epoch,
    node: NODE,
    state: isWhole ? "staged" : "staging",
    token,
    writer: WRITER,
    attempt: epoch === null ? null : ATTEMPT,
    path: epoch === null ? `/staging/${imageId}.0` : `/staging/${imageId}.3.12345678.product`,
    ours,
    reserved: isWhole ? 0 : 8192,
    fetched_from: isDownload ? SOURCE : null,
    single_connection: isDownload,
    ...facts,
    checksum: isWhole && ours ? SOME_DIGESTS.checksum : null,
    os_hash_algo: isWhole && ours ? SOME_DIGESTS.osHashAlgo : null,
    os_hash_value: isWhole && ours ? SOME_DIGESTS.osHashValue : null,
    crc32: isWhole && ours ? SOME_DIGESTS.crc32 : null,
    zero_blocks: isWhole ? "1-2" : "",
    linked_store: isWhole ? "fast" : null,
    expires_at: isWhole ? new Date(Date.now() + 60_000) : null,
    made:
      product > 0 && isWhole ? { transform: "convert", diskFormat: "raw", properties: {} } : null,
  };
  // postgres.js writes an object into a jsonb column as it is, which its types do not say.
  await sql`INSERT INTO staged_files ${sql(row as object as Record<string, never>)}`;
  return token;
}

/** Inserts the lease of a copy as it was. Returns the token of its writer. */
async function oldCopy(
  sql: postgres.Sql,
  imageId: string,
  store: string,
  isPublished: boolean,
): Promise<string> {
  const token = randomUUID();
  const facts = isPublished ? { size: 4096, crc32: 7, shared: true, version: "v" } : {};
  const row = {
    image_id: imageId,
    epoch: EPOCH,
    store,
    node: NODE,
    token,
    writer: WRITER,
    attempt: ATTEMPT,
    part: "p2",
    earlier_parts: ["p1"],
    key: `${imageId}.${EPOCH}`,
    state: isPublished ? "published" : "writing",
    ...facts,
  };
  await sql`INSERT INTO leases ${sql(row)}`;
  return token;
}

describe("the migration to one lease", () => {
  it("carries over an upload that is being written, and its process finishes it", async () => {
    const { sql, inTransaction, upgrade } = await earlierDatabase();
    const { imageId } = await anImage(sql, "uploading");
    const token = await oldStaged(sql, imageId, {});

    await upgrade();

    const upload: LeaseId = { imageId, epoch: 0, place: "upload" };
    expect(await inTransaction((db) => findLease(db, upload))).toMatchObject({
      ...{ node: NODE, token, writer: WRITER, attempt: null, part: "part-0", earlierParts: [] },
      ...{ path: `/staging/${imageId}.0`, state: "writing", reservedBytes: 8192 },
    });
    await inTransaction((db) => renewStaging(db, imageId, token));
    const facts = { sizeBytes: 1, fingerprint: SOME_FINGERPRINT, digests: undefined };
    const path = `/staging/${imageId}`;
    await inTransaction((db) =>
      finishStaging(db, imageId, token, { ...facts, path, timeToLiveMs: 1000 }),
    );
    expect(await inTransaction((db) => findStaged(db, upload))).toMatchObject({ state: "whole" });
  });

  it.each([
    ["that this service wrote", true, SOME_DIGESTS],
    ["that was adopted", false, undefined],
  ])("carries over an upload %s", async (_, ours, digests) => {
    const { sql, inTransaction, upgrade } = await earlierDatabase();
    const { imageId } = await anImage(sql, "uploading");
    const token = await oldStaged(sql, imageId, { isWhole: true, ours });

    await upgrade();

    const row = await inTransaction((db) => findStagedSource(db, { imageId }));
    expect(row).toMatchObject({
      ...{ place: "upload", epoch: 0, state: "whole", ours, sizeBytes: 4096, reservedBytes: 0 },
      ...{ fingerprint: SOME_FINGERPRINT, zeroBlocks: "1-2", linkedStore: "fast" },
    });
    expect(row && knownDigests(row)).toEqual(digests);
    await inTransaction((db) => dropStaging(db, imageId, token));
    expect(await sql`SELECT status FROM images WHERE id = ${imageId}`).toEqual([
      { status: "queued" },
    ]);
  });

  it.each<[string, Place, OldStaged, object]>([
    [
      "a download that is being written",
      "download",
      { epoch: EPOCH, isDownload: true },
      { state: "writing", fetchedFrom: SOURCE, singleConnection: true, part: "part-0" },
    ],
    [
      "a download that is whole",
      "download",
      { epoch: EPOCH, isDownload: true, isWhole: true },
      { state: "whole", ours: true, sizeBytes: 4096, crc32: 7, part: PART },
    ],
    [
      "a product that is being written",
      "product/2",
      { epoch: EPOCH, product: 2 },
      { state: "writing", part: "part-2", sizeBytes: null },
    ],
    [
      "a product that is whole",
      "product/1",
      { epoch: EPOCH, product: 1, isWhole: true },
      {
        state: "whole",
        part: PART,
        made: { transform: "convert", diskFormat: "raw", properties: {} },
      },
    ],
  ])("carries over %s, with its writer", async (_, place, old, expected) => {
    const { sql, inTransaction, upgrade } = await earlierDatabase();
    const { imageId } = await anImage(sql, "importing");
    const token = await oldStaged(sql, imageId, old);

    await upgrade();

    const id: LeaseId = { imageId, epoch: EPOCH, place };
    expect(await inTransaction((db) => findStaged(db, id))).toMatchObject({
      ...{ node: NODE, token, writer: WRITER, attempt: ATTEMPT, ...expected },
    });
    await inTransaction((db) => requireLease(db, id, token));
    await inTransaction((db) => finishLease(db, id, token));
  });

  it("carries over a copy that is being written, which a later attempt takes", async () => {
    const { sql, inTransaction, upgrade } = await earlierDatabase();
    const { imageId } = await anImage(sql, "importing");
    const token = await oldCopy(sql, imageId, "fast", false);

    await upgrade();

    const id: LeaseId = { imageId, epoch: EPOCH, place: "store/fast" };
    const before = await inTransaction((db) => findLease(db, id));
    expect(before).toMatchObject({
      ...{ token, writer: WRITER, part: "p2", earlierParts: ["p1"], state: "writing", copy: null },
      path: `${imageId}.${EPOCH}`,
    });
    const holder = { node: NODE, token: randomUUID(), writer: WRITER };
    const attempt = { ...ATTEMPT, attempt: 2 };
    const names = { part: "p3", path: "key" };
    expect(
      await inTransaction((db) => takeLease(db, id, { ...holder, attempt, ...names }, before)),
    ).toBe(true);
  });

  it("carries over a copy that is published, which its import saves", async () => {
    const { sql, inTransaction, upgrade } = await earlierDatabase();
    const claim = await anImage(sql, "importing");
    await oldCopy(sql, claim.imageId, "fast", true);

    await upgrade();

    const locations = [{ store: "fast", url: "file:///fast" }];
    const saved = { ...claim, digests: SOME_DIGESTS, virtualSizeBytes: null, locations };
    await inTransaction((db) => recordSaved(db, saved));
    expect(await sql`SELECT key, size, crc32, shared, version, node FROM image_locations`).toEqual([
      {
        ...{ key: `${claim.imageId}.${EPOCH}`, size: "4096", crc32: "7" },
        ...{ shared: true, version: "v", node: NODE },
      },
    ]);
  });

  it("carries over the promise to undo a transform, which is found when its import is lost", async () => {
    const { sql, inTransaction, upgrade } = await earlierDatabase();
    const claim = await anImage(sql, "importing");
    const { imageId } = claim;
    await sql`INSERT INTO transform_undos (image_id, epoch, transform, node, disk_format, container_format, roles)
      VALUES (${imageId}, ${EPOCH}, 'align', ${NODE}, 'raw', 'bare', ${["admin"]})`;

    await upgrade();

    const listed = () => inTransaction((db) => listAbandonedLeases(db, { node: NODE }));
    expect(await listed()).toEqual([]);
    await inTransaction((db) => releaseClaim(db, claim, { message: "Error: x" }, []));
    const [lease] = await listed();
    expect(lease).toMatchObject({
      ...{ imageId, epoch: EPOCH, place: "transform/align" },
      effects: { diskFormat: "raw", containerFormat: "bare", roles: ["admin"] },
    });
    expect(await inTransaction(async (db) => lease && dropLease(db, lease))).toBe(true);
  });
});
