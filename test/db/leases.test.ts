import { takeClaim } from "../../src/db/claim-records.ts";
import {
  dropLease,
  findLease,
  finishLease,
  listAbandonedLeases,
  promiseUndo,
  requireLease,
  takeAbandonedLease,
  takeLease,
  takeLeaseAway,
} from "../../src/db/lease-records.ts";
import {
  beginStaging,
  dropStaging,
  finishStaging,
  renewStaging,
} from "../../src/db/upload-records.ts";
import type { Place } from "../../src/domain/place.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { claimantOf, SOME_DIGESTS, SOME_FINGERPRINT, useCatalogue } from "../support/catalogue.ts";
import { endImport, testLease, type LeaseId, type LeaseKind } from "./lease-contract.ts";

const catalogue = useCatalogue();

async function downloadedImage(): Promise<LeaseId> {
  const imageId = await catalogue.newImage();
  const request = { image_id: imageId, method: "web-download", uri: "http://a.test/b" } as const;
  const { epoch } = await catalogue.database.transaction((db) =>
    takeClaim(db, NO_LIMITS, request, ["fast"], claimantOf(imageId)),
  );
  return { imageId, epoch };
}

/** A kind of bytes that an import writes, by the records that all of them share. */
function ofImport(name: string, place: Place): LeaseKind {
  return {
    name,
    image: place === "download" ? downloadedImage : () => catalogue.claimedImage(),
    end: (id) => endImport(catalogue, id),
    overtaken: "AttemptOvertaken",
    hasClaim: true,
    take: async (db, id, attempt) => {
      const lease = { ...id, place };
      const before = await findLease(db, lease);
      await takeLease(db, lease, { ...attempt, path: `/${attempt.part}` }, before);
    },
    require: (db, id, token) => requireLease(db, { ...id, place }, token),
    finish: async (db, id, { token }) => {
      const copy = { sizeBytes: 4096, crc32: 7, shared: false };
      await finishLease(db, { ...id, place }, token, place === "store/fast" ? { copy } : {});
    },
    takeAway: async (db, id, taker) =>
      (await takeLeaseAway(db, { ...id, place }, taker)) !== undefined,
    drop: async (db, id, token) => {
      await dropLease(db, { ...id, place }, token);
    },
    find: (db, id) => findLease(db, { ...id, place }),
    listAbandoned: async (db, node) =>
      (await listAbandonedLeases(db, { node })).map(({ imageId }) => imageId),
  };
}

testLease(catalogue, ofImport("a copy", "store/fast"));
testLease(catalogue, ofImport("a download", "download"));
testLease(catalogue, ofImport("a product", "product/1"));

const effects = ofImport("the effects of a transform", "transform/align");
testLease(catalogue, {
  ...effects,
  hasPart: false,
  take: async (db, id, attempt) => {
    const effects = { diskFormat: "raw", containerFormat: "bare", roles: [] };
    await promiseUndo(db, { ...id, place: "transform/align" }, attempt, effects);
  },
});

const uploadOf = ({ imageId }: LeaseId) => ({ imageId, epoch: 0, place: "upload" }) as const;
const silence = ({ imageId }: LeaseId) => catalogue.silenceStager(imageId, 30);
const upload = ofImport("an upload", "upload");

testLease(catalogue, {
  ...upload,
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
  finish: async (db, { imageId }, { token }) => {
    const facts = { fingerprint: SOME_FINGERPRINT, digests: SOME_DIGESTS, timeToLiveMs: 60_000 };
    const path = `/staging/${imageId}`;
    await finishStaging(db, imageId, token, { path, sizeBytes: 4096, ...facts });
  },
  takeAway: async (db, id, taker) =>
    (await takeAbandonedLease(db, uploadOf(id), taker)) !== undefined,
  drop: (db, { imageId }, token) => dropStaging(db, imageId, token),
});
