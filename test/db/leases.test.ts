import { requireNotLate } from "../../src/activities/attempts.ts";
import { requireClaim } from "../../src/db/claim-guard.ts";
import { takeClaim } from "../../src/db/claim-records.ts";
import type { Queries } from "../../src/db/connect.ts";
import {
  findReplaceable,
  finishFetch,
  recordFetched,
  requireFetch,
  takeFetch,
  takeFetchedAway,
} from "../../src/db/fetched-records.ts";
import {
  dropLease,
  findLease,
  listAbandonedLeases,
  publishLease,
  requireLease,
  takeLease,
} from "../../src/db/lease-records.ts";
import {
  beginProduct,
  finishProduct,
  requireProduct,
  takeProduct,
  takeProductsAway,
} from "../../src/db/product-records.ts";
import { dropStagedRow, findStaged, type StagedData } from "../../src/db/staged-records.ts";
import {
  beginStaging,
  dropStaging,
  finishStaging,
  listExpiredStaging,
  renewStaging,
  takeOverStaging,
} from "../../src/db/upload-records.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { claimantOf, SOME_DIGESTS, SOME_FINGERPRINT, useCatalogue } from "../support/catalogue.ts";
import { endImport, testLease, type FoundLease, type LeaseId } from "./lease-contract.ts";

const catalogue = useCatalogue();

function stagedAt(path: string): StagedData {
  const { sizeBytes } = SOME_DIGESTS;
  const fingerprint = SOME_FINGERPRINT;
  return { path, sizeBytes, fingerprint, digests: SOME_DIGESTS, timeToLiveMs: 60_000 };
}

async function foundStaged(
  db: Queries,
  { imageId }: LeaseId,
  product = 0,
): Promise<FoundLease | undefined> {
  const row = await findStaged(db, imageId, product);
  if (row === undefined) return undefined;
  const { node, token, writer, part } = row;
  return { node, token, writer, part, state: row.state === "staged" ? "whole" : "writing" };
}

async function listExpired(db: Queries, node: string): Promise<string[]> {
  return (await listExpiredStaging(db, node)).map(({ imageId }) => imageId);
}

const copyOf = (id: LeaseId) => ({ ...id, store: "fast" });

testLease(catalogue, {
  name: "a copy",
  image: () => catalogue.claimedImage(),
  end: (id) => endImport(catalogue, id),
  overtaken: "AttemptOvertaken",
  hasClaim: true,
  take: async (db, id, attempt) => {
    await requireClaim(db, id);
    const before = await findLease(db, copyOf(id));
    if (attempt.attempt !== null) requireNotLate(before?.attempt ?? null, attempt.attempt, "it");
    await takeLease(db, copyOf(id), { ...attempt, key: "key" });
  },
  require: (db, id, token) => requireLease(db, copyOf(id), token),
  finish: (db, id, { token }) =>
    publishLease(db, copyOf(id), token, { sizeBytes: 4096, crc32: 7, shared: false }),
  takeAway: async (db, id, { token, attempt }) => {
    const found = await findLease(db, copyOf(id));
    if (found === undefined) return false;
    if (attempt !== null) requireNotLate(found.attempt, attempt, "it");
    await takeLease(db, copyOf(id), { ...found, attempt, token });
    return true;
  },
  drop: async (db, id, token) => {
    await dropLease(db, copyOf(id), token);
  },
  find: async (db, id) => {
    const lease = await findLease(db, copyOf(id));
    if (lease === undefined) return undefined;
    const { node, token, writer, part } = lease;
    return { node, token, writer, part, state: lease.state === "published" ? "whole" : "writing" };
  },
  listAbandoned: async (db, node) =>
    (await listAbandonedLeases(db))
      .filter((lease) => lease.node === node)
      .map(({ imageId }) => imageId),
});

testLease(catalogue, {
  name: "a download",
  image: async () => {
    const imageId = await catalogue.newImage();
    const request = { image_id: imageId, method: "web-download", uri: "http://a.test/b" } as const;
    const { epoch } = await catalogue.database.transaction((db) =>
      takeClaim(db, NO_LIMITS, request, ["fast"], claimantOf(imageId)),
    );
    return { imageId, epoch };
  },
  end: (id) => endImport(catalogue, id),
  overtaken: "AttemptOvertaken",
  hasClaim: true,
  take: async (db, id, attempt) => {
    const before = await findReplaceable(db, id, attempt.node);
    if (attempt.attempt !== null) requireNotLate(before?.attempt ?? null, attempt.attempt, "it");
    const path = `/staging/${attempt.part}.product`;
    await takeFetch(db, id, { ...attempt, path, resumes: false });
  },
  require: async (db, id, token) => {
    await requireFetch(db, id, token);
  },
  finish: async (db, id, { token, part }) => {
    const staged = stagedAt(`/staging/${part}.product`);
    await recordFetched(db, id, token, staged);
    await finishFetch(db, id, token, staged);
  },
  takeAway: async (db, id, taker) => {
    const { token, writer, attempt } = taker;
    const requireOurs = (held: typeof attempt) => {
      if (attempt !== null) requireNotLate(held, attempt, "it");
    };
    return (await takeFetchedAway(db, id, { token, writer, attempt }, requireOurs)) !== undefined;
  },
  drop: (db, { imageId }, token) => dropStagedRow(db, imageId, token),
  find: foundStaged,
  listAbandoned: listExpired,
});

const productOf = (id: LeaseId) => ({ ...id, product: 1 });

testLease(catalogue, {
  name: "a product",
  image: () => catalogue.claimedImage(),
  end: (id) => endImport(catalogue, id),
  overtaken: "AttemptOvertaken",
  hasClaim: true,
  take: async (db, id, attempt) => {
    const taken = { ...productOf(id), ...attempt, path: `/staging/${attempt.part}.product` };
    if ((await takeProduct(db, taken)) !== undefined) await beginProduct(db, taken);
  },
  require: (db, id, token) => requireProduct(db, { ...productOf(id), token }),
  finish: async (db, id, attempt) => {
    const staged = stagedAt(`/staging/${attempt.part}.product`);
    const made = { transform: "convert", diskFormat: "qcow2", properties: {} };
    await finishProduct(db, { ...productOf(id), ...attempt, path: staged.path }, staged, made);
  },
  takeAway: async (db, id, taker) => (await takeProductsAway(db, id, taker)).length > 0,
  drop: (db, { imageId }, token) => dropStagedRow(db, imageId, token),
  find: (db, id) => foundStaged(db, id, 1),
  listAbandoned: listExpired,
});

const silence = ({ imageId }: LeaseId) => catalogue.silenceStager(imageId, 30);

testLease(catalogue, {
  name: "an upload",
  image: async () => ({ imageId: await catalogue.newImage(), epoch: 0 }),
  end: silence,
  free: silence,
  overtaken: "StagingBusy",
  hasClaim: false,
  take: async (db, { imageId }, { node, token, writer, part }) => {
    const path = `/staging/${imageId}`;
    const names = { imageId, node, token, writer, part, path };
    await beginStaging(db, NO_LIMITS, { ...names, sizeBytes: 0, replace: false });
  },
  require: (db, { imageId }, token) => renewStaging(db, imageId, token),
  finish: (db, { imageId }, { token }) =>
    finishStaging(db, imageId, token, stagedAt(`/staging/${imageId}`)),
  takeAway: async (db, { imageId }, { node, token, writer }) =>
    (await takeOverStaging(db, { imageId, product: 0 }, { node, token, writer })) !== undefined,
  drop: (db, { imageId }, token) => dropStaging(db, imageId, token),
  find: foundStaged,
  listAbandoned: listExpired,
});
