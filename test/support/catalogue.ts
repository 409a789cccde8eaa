import { randomUUID } from "node:crypto";
import { eq, sql, type SQL } from "drizzle-orm";
import { afterAll, beforeAll } from "vitest";
import type { Fingerprint } from "../../src/bytes/fingerprint.ts";
import { thisProcess, type ProcessIdentity } from "../../src/processes/process-identity.ts";
import { type Claim, type ClaimingRun, takeClaim } from "../../src/db/claim-records.ts";
import {
  type ImageRow,
  insertImage,
  type LocationRow,
  type NewImage,
} from "../../src/db/image-records.ts";
import { finishLease, type LeaseRow, takeLease } from "../../src/db/lease-records.ts";
import { activate, recordSaved } from "../../src/db/outcome-records.ts";
import { findStaged, type StagedRow } from "../../src/db/staged-facts.ts";
import { beginProcessing, listTasks, type TaskRow } from "../../src/db/task-records.ts";
import { beginStaging, finishStaging } from "../../src/db/upload-records.ts";
import { Database } from "../../src/db/connect.ts";
import { imageLocations, images, leases, tasks } from "../../src/db/schema.ts";
import type { Digests } from "../../src/domain/digests.ts";
import type { ImageStatus } from "../../src/domain/image-status.ts";
import { productPlace, storeAt, storePlace, transformAt } from "../../src/domain/place.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { failureOf } from "./failure-of.ts";
import { createTestDatabase, type TestDatabase } from "./database.ts";

/** Digests of no bytes in particular, for tests that only move rows. */
export const SOME_DIGESTS: Digests = {
  checksum: "0".repeat(32),
  osHashAlgo: "sha512",
  osHashValue: "0".repeat(128),
  crc32: 7,
  sizeBytes: 4096,
};

/** A fingerprint of no file in particular. */
export const SOME_FINGERPRINT: Fingerprint = {
  dev: "1",
  ino: "2",
  sizeBytes: "4096",
  mtimeNs: "3",
  ctimeNs: "4",
};

/** A process of another machine, for rows without a writer. */
export const SOME_WRITER: ProcessIdentity = {
  machine: "@somewhere",
  bootId: "7b1a4c5e-0000-4000-8000-000000000000",
  pidNamespace: "pid:[1]",
  pid: 4711,
  startTicks: 100,
};

/** The staging volume of rows that have no files. */
export const NODE = "0123456789ab";

/** The copy of an import in a store. */
interface CopyId {
  readonly imageId: string;
  readonly epoch: number;
  readonly store: string;
}

/** An image, and the import that holds it or held it. */
export interface ClaimedImage extends Claim, ClaimingRun {
  readonly imageId: string;
}

/**
 * A catalogue of one test file's own, on the shared Postgres; every test uses images of its own.
 */
export class Catalogue {
  #database: Database | undefined;
  #testDatabase: TestDatabase | undefined;

  /** Called by {@link useCatalogue}. */
  async open(): Promise<void> {
    this.#testDatabase = await createTestDatabase();
    this.#database = new Database({ url: this.#testDatabase.url });
  }

  /** Called by {@link useCatalogue}. */
  async close(): Promise<void> {
    await this.#database?.close();
    await this.#testDatabase?.drop();
  }

  get database(): Database {
    if (this.#database === undefined) throw new Error("The catalogue is not open yet");
    return this.#database;
  }

  get url(): string {
    if (this.#testDatabase === undefined) throw new Error("The catalogue is not open yet");
    return this.#testDatabase.url;
  }

  /** Runs one statement as it stands. */
  async execute(statement: SQL): Promise<void> {
    await this.database.query((db) => db.execute(statement));
  }

  /** A new image: queued, `raw` in `bare`, unless said otherwise. */
  async newImage(fields: Partial<NewImage> = {}): Promise<string> {
    const id = fields.id ?? randomUUID();
    await this.database.transaction((db) =>
      insertImage(db, NO_LIMITS, { id, diskFormat: "raw", containerFormat: "bare", ...fields }),
    );
    return id;
  }

  /** Begins to stage a queued image: the lease of a stager, without a file. Returns its token. */
  async beginStaging(imageId: string, replace = false): Promise<string> {
    const token = randomUUID();
    const writer = await thisProcess();
    const part = `${imageId}.0.00000000.part`;
    const path = `/staging/${imageId}`;
    const attempt = { imageId, node: NODE, token, writer, part, path, sizeBytes: 0, replace };
    await this.database.transaction((db) => beginStaging(db, NO_LIMITS, attempt));
    return token;
  }

  /** An image whose data is staged, as far as rows go. */
  async stagedImage(fields: Partial<NewImage> = {}): Promise<string> {
    const imageId = await this.newImage(fields);
    const token = await this.beginStaging(imageId);
    await this.database.transaction((db) =>
      finishStaging(db, imageId, token, {
        path: `/staging/${imageId}`,
        sizeBytes: SOME_DIGESTS.sizeBytes,
        fingerprint: SOME_FINGERPRINT,
        digests: SOME_DIGESTS,
        timeToLiveMs: 60_000,
      }),
    );
    return imageId;
  }

  /** Takes the claim of an image for a run. */
  async claim(
    imageId: string,
    claimant: ClaimingRun = claimantOf(imageId),
    stores: readonly string[] = ["fast"],
  ): Promise<Claim> {
    return this.database.transaction((db) =>
      takeClaim(db, NO_LIMITS, { image_id: imageId }, stores, claimant),
    );
  }

  /** An image whose import is accepted, with its claim. */
  async claimedImage(
    fields: Partial<NewImage> = {},
    stores: readonly string[] = ["fast"],
  ): Promise<ClaimedImage> {
    const imageId = await this.stagedImage(fields);
    const claimant = claimantOf(imageId);
    const claim = await this.claim(imageId, claimant, stores);
    return { imageId, ...claim, ...claimant };
  }

  /** Records that an import has its copies: the image is `saving`. */
  async save(
    { imageId, epoch }: { readonly imageId: string; readonly epoch: number },
    stores: readonly string[] = ["fast"],
  ): Promise<void> {
    for (const store of stores) await this.wholeCopy({ imageId, epoch, store });
    const locations = stores.map((store) => ({ store, url: `file:///${store}/${imageId}` }));
    await this.database.transaction((db) =>
      recordSaved(db, {
        imageId,
        epoch,
        digests: SOME_DIGESTS,
        virtualSizeBytes: null,
        locations,
      }),
    );
  }

  /** An image that was imported, as far as rows go. */
  async activeImage(
    fields: Partial<NewImage> = {},
    stores: readonly string[] = ["fast"],
  ): Promise<ClaimedImage> {
    const claim = await this.claimedImage(fields, stores);
    await this.save(claim, stores);
    await this.database.transaction(async (db) => {
      await beginProcessing(db, claim.taskId);
      await activate(db, claim);
    });
    return claim;
  }

  /** An image in this status, without the rows that would have brought it there. */
  async imageIn(status: ImageStatus): Promise<string> {
    const { imageId } = await this.claimedImage();
    if (status !== "importing" && status !== "saving") await this.dropClaim(imageId);
    await this.execute(sql`
      UPDATE images SET status = ${status}, size = 1, checksum = 'c', os_hash_algo = 'a', os_hash_value = 'v'
      WHERE id = ${imageId}`);
    return imageId;
  }

  /** Makes an image look as if no import had ever held it. */
  async dropClaim(imageId: string): Promise<void> {
    await this.execute(sql`
      UPDATE images SET status = 'queued', claim_task_id = NULL, claim_workflow_id = NULL, claim_run_id = NULL, claim_earlier_status = NULL
      WHERE id = ${imageId}`);
  }

  /** The lease of a whole copy, without bytes. */
  async wholeCopy({ imageId, epoch, store }: CopyId): Promise<void> {
    const path = `${imageId}.${String(epoch)}`;
    const names = { part: `${path}.x.part`, path };
    const holder = { node: NODE, token: randomUUID(), writer: await thisProcess(), ...names };
    const id = { imageId, epoch, place: storePlace(store) };
    await this.database.transaction(async (db) => {
      await takeLease(db, id, holder, undefined);
      const { sizeBytes, crc32 } = SOME_DIGESTS;
      await finishLease(db, id, holder.token, { copy: { sizeBytes, crc32, shared: false } });
    });
  }

  /** @throws Error when it is gone */
  async image(imageId: string): Promise<ImageRow> {
    return only(
      await this.database.query((db) => db.select().from(images).where(eq(images.id, imageId))),
    );
  }

  async task(taskId: string): Promise<TaskRow> {
    return only(
      await this.database.query((db) => db.select().from(tasks).where(eq(tasks.id, taskId))),
    );
  }

  /** The locations of an image, also those that readers do not see; in the order of stores. */
  async locations(imageId: string): Promise<LocationRow[]> {
    return this.database.query((db) =>
      db
        .select()
        .from(imageLocations)
        .where(eq(imageLocations.imageId, imageId))
        .orderBy(imageLocations.store, imageLocations.epoch),
    );
  }

  /** The leases of the copies of an image. */
  async leases(imageId: string): Promise<LeaseRow[]> {
    return (await this.allLeases(imageId)).filter(({ place }) => storeAt(place) !== undefined);
  }

  /** The leases of an image: of its uploads, downloads, products, copies and transforms. */
  async allLeases(imageId: string): Promise<LeaseRow[]> {
    return this.database.query((db) =>
      db
        .select()
        .from(leases)
        .where(eq(leases.imageId, imageId))
        // Postgres changes the order when it changes its plan, as after an ANALYZE.
        .orderBy(leases.epoch, leases.place),
    );
  }

  /** The upload or download of an image, or a product, of its newest import that has one. */
  async staged(imageId: string, product = 0): Promise<StagedRow | undefined> {
    const places = product === 0 ? ["upload", "download"] : [productPlace(product)];
    const [lease] = (await this.allLeases(imageId))
      .filter(({ place }) => places.includes(place))
      .sort((one, other) => other.epoch - one.epoch);
    return lease && this.database.query((db) => findStaged(db, lease));
  }

  /** The names of the transforms that have to be undone for an image. */
  async transformUndos(imageId: string): Promise<string[]> {
    const all = await this.allLeases(imageId);
    return all.flatMap(({ place }) => transformAt(place) ?? []).sort();
  }

  /** All rows of an image, to compare before and after. */
  async everythingOf(imageId: string) {
    return {
      image: await this.image(imageId),
      locations: await this.locations(imageId),
      leases: await this.leases(imageId),
      staged: await this.staged(imageId),
      tasks: await this.database.query((db) => listTasks(db, { imageId, limit: 100 })),
    };
  }

  /** The failure of some work, and all rows of the image before and after it. */
  async failureAndRest(imageId: string, work: () => Promise<unknown>) {
    const before = await this.everythingOf(imageId);
    const failure = await failureOf(work());
    return { failure, before, after: await this.everythingOf(imageId) };
  }

  /** Makes the stager of an image look as if it had been silent for so long. */
  async silenceStager(imageId: string, seconds: number): Promise<void> {
    await this.execute(
      sql`UPDATE leases SET renewed_at = now() - make_interval(secs => ${seconds}) WHERE image_id = ${imageId}`,
    );
  }

  /** Makes staged data look as if its time to live had just ended. */
  async expireStaged(imageId: string): Promise<void> {
    await this.execute(
      sql`UPDATE staged_files SET expires_at = now() - interval '1 second' WHERE image_id = ${imageId}`,
    );
  }
}

function only<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error("No such row");
  return row;
}

/** A run that asks for the claim of an image, with a new run id and task id. */
export function claimantOf(imageId: string): ClaimingRun {
  return {
    workflowId: `image-import/${imageId}`,
    runId: randomUUID(),
    taskId: randomUUID(),
    isOpen: async () => true,
  };
}

/** Opens a catalogue before the tests of a file and drops it after them. */
export function useCatalogue(): Catalogue {
  const catalogue = new Catalogue();
  beforeAll(async () => {
    await catalogue.open();
  });
  afterAll(async () => {
    await catalogue.close();
  });
  return catalogue;
}
