import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { type ClaimingRun, releaseClaim, takeClaim } from "../../src/db/claim-records.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import { insertImage } from "../../src/db/image-records.ts";
import { dropLease, finishLease, takeLease } from "../../src/db/lease-records.ts";
import { activate, recordSaved } from "../../src/db/outcome-records.ts";
import {
  growReservation,
  type QuotaUsage,
  readUsage,
  type ReservationGrowth,
} from "../../src/db/quota-records.ts";
import { storePlace } from "../../src/domain/place.ts";
import {
  beginStaging,
  dropStaging,
  finishStaging,
  growStaging,
} from "../../src/db/upload-records.ts";
import { NO_LIMITS, UNLIMITED, type Limits, type Quota } from "../../src/domain/quota.ts";
import { claimantOf, NODE, SOME_DIGESTS, SOME_FINGERPRINT, type Catalogue } from "./catalogue.ts";

/** The limits of every owner; unlimited by default. */
export function limitsOf(
  quotas: Partial<Record<Quota, number>>,
  imageSizeCapBytes = Infinity,
): Limits {
  return { ...NO_LIMITS, imageSizeCapBytes, everyOwner: { ...UNLIMITED, ...quotas } };
}

/** An import that holds an image. */
export interface HeldImport extends ClaimingRun {
  readonly imageId: string;
  readonly epoch: number;
  readonly stores: readonly string[];
}

/** An owner of a test's own, and what he does with images, as far as rows go. */
export class LimitedOwner {
  readonly name: string | null;
  readonly #catalogue: Catalogue;
  readonly #limits: Limits;

  constructor(catalogue: Catalogue, limits: Limits, name: string | null = `owner-${randomUUID()}`) {
    this.name = name;
    this.#catalogue = catalogue;
    this.#limits = limits;
  }

  async usage(): Promise<Record<Quota, QuotaUsage>> {
    return this.#catalogue.database.query((db) => readUsage(db, this.name));
  }

  /** The usage of each quota: existing and reserved amounts. */
  async counted(): Promise<Record<Quota, number>> {
    const used = Object.entries(await this.usage());
    return Object.fromEntries(
      used.map(([quota, { usage, reserved }]) => [quota, usage + reserved]),
    ) as Record<Quota, number>;
  }

  async newImage(): Promise<string> {
    const id = randomUUID();
    const image = {
      id,
      owner: this.name ?? undefined,
      diskFormat: "raw",
      containerFormat: "bare",
    } as const;
    await this.#catalogue.database.transaction((db) => insertImage(db, this.#limits, image));
    return id;
  }

  /** Begins to stage so many bytes. Returns the stager's token. */
  async begin(imageId: string, sizeBytes = 0, replace = false): Promise<string> {
    const token = randomUUID();
    const attempt = {
      imageId,
      node: NODE,
      token,
      writer: await thisProcess(),
      part: `${imageId}.0.00000000.part`,
      path: `/staging/${imageId}`,
      sizeBytes,
      replace,
    };
    await this.#catalogue.database.transaction((db) => beginStaging(db, this.#limits, attempt));
    return token;
  }

  async grow(
    imageId: string,
    token: string,
    imageBytes: number,
    welcomeBytes = imageBytes,
  ): Promise<number> {
    return this.#catalogue.database.transaction((db) =>
      growStaging(db, this.#limits, { imageId, token }, { imageBytes, welcomeBytes }),
    );
  }

  async finish(imageId: string, token: string, sizeBytes: number): Promise<void> {
    await this.#catalogue.database.transaction((db) =>
      finishStaging(db, imageId, token, {
        path: `/staging/${imageId}`,
        sizeBytes,
        fingerprint: SOME_FINGERPRINT,
        digests: { ...SOME_DIGESTS, sizeBytes },
        timeToLiveMs: 60_000,
      }),
    );
  }

  async drop(imageId: string, token: string): Promise<void> {
    await this.#catalogue.database.transaction((db) => dropStaging(db, imageId, token));
  }

  /** A new image with so many bytes staged. */
  async staged(sizeBytes: number): Promise<string> {
    const imageId = await this.newImage();
    await this.finish(imageId, await this.begin(imageId, sizeBytes), sizeBytes);
    return imageId;
  }

  /** Has an import of an image accepted. */
  async claim(
    imageId: string,
    stores: readonly string[] = ["fast"],
    uri?: string,
  ): Promise<HeldImport> {
    const claimant = claimantOf(imageId);
    const request = { image_id: imageId, ...(uri === undefined ? {} : { uri }) };
    const { epoch } = await this.#catalogue.database.transaction((db) =>
      takeClaim(db, this.#limits, request, stores, claimant),
    );
    return { ...claimant, imageId, epoch, stores };
  }

  async growImport(held: HeldImport, growth: ReservationGrowth): Promise<number> {
    return this.#catalogue.database.transaction((db) =>
      growReservation(db, this.#limits, held, growth),
    );
  }

  /** The undo of an import. */
  async release(held: HeldImport): Promise<void> {
    await this.#catalogue.database.transaction((db) =>
      releaseClaim(db, held, { message: "cancelled" }, []),
    );
  }

  /** Publishes the image in these stores, and unstages it. */
  async publish(
    held: HeldImport,
    sizeBytes: number,
    stores: readonly string[] = held.stores,
  ): Promise<void> {
    const { imageId, epoch } = held;
    const writer = await thisProcess();
    await this.#catalogue.database.transaction(async (db) => {
      for (const store of stores) {
        const token = randomUUID();
        const id = { imageId, epoch, place: storePlace(store) };
        const holder = { node: NODE, token, writer, part: token, path: token };
        await takeLease(db, id, holder, undefined);
        await finishLease(db, id, token, { copy: { sizeBytes, crc32: 7, shared: false } });
      }
      await recordSaved(db, {
        imageId,
        epoch,
        digests: { ...SOME_DIGESTS, sizeBytes },
        virtualSizeBytes: null,
        locations: stores.map((store) => ({ store, url: `file:///${store}/${imageId}` })),
      });
    });
    await this.#catalogue.database.transaction((db) => activate(db, held));
    await this.unstage(imageId);
  }

  async unstage(imageId: string): Promise<void> {
    const staged = await this.#catalogue.staged(imageId);
    if (staged === undefined) return;
    await this.#catalogue.database.transaction((db) => dropLease(db, staged));
  }

  /** An active image with copies in these stores. */
  async active(sizeBytes: number, stores?: readonly string[]): Promise<string> {
    const imageId = await this.staged(sizeBytes);
    await this.publish(await this.claim(imageId, stores), sizeBytes);
    return imageId;
  }

  async delete(imageId: string): Promise<void> {
    await this.#catalogue.database.transaction((db) => beginDeletion(db, imageId));
  }

  /** Makes the run of an import look as if it had been lost, and its workflow started again. */
  async loseRun({ imageId }: HeldImport): Promise<void> {
    await this.#catalogue.execute(
      sql`UPDATE images SET claim_run_id = ${randomUUID()} WHERE id = ${imageId}`,
    );
  }
}
