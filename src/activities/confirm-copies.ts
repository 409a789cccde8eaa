import { hashFile } from "../bytes/hash-file.ts";
import { listPendingLocations, recordVersion, type LocationRow } from "../db/image-records.ts";
import type { Digests } from "../domain/digests.ts";
import { ImportError } from "../domain/import-failure.ts";
import { mayHaveChanged } from "../stores/store.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { patiently } from "./patiently.ts";
import { withProgress, type Progress } from "./progress.ts";

/** The copies to confirm. */
export interface ConfirmOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly digests: Digests;
}

/** The last look at the copies before readers see them. It has no undo: it changes no bytes. */
export function confirmCopiesActivities(dependencies: NodeDependencies) {
  const { database, idleTimeoutMs } = dependencies;
  return {
    /**
     * Makes sure that no copy has changed since it was checked. A copy that may have changed is
     * read again and compared with the digests. This matters most for a link: it is another name of
     * the staged file, and the owner of that file can still write to it.
     *
     * @throws ImportError `StagedDataChanged` for a copy that is still the staged file,
     *   `DigestMismatch` for any other, `CopyNotFound`; retried: `StoreUnavailable`
     */
    async confirmCopies(order: ConfirmOrder): Promise<void> {
      const copies = await database.query((db) =>
        listPendingLocations(db, order.image_id, order.epoch),
      );
      const totalBytes = order.digests.sizeBytes;
      await withProgress(
        { about: { step: "confirm", totalBytes }, idleTimeoutMs, idleFailure: "StoreUnavailable" },
        async (progress) => {
          for (const copy of copies) await confirm(dependencies, copy, order.digests, progress);
        },
      );
    },
  };
}

async function confirm(
  { database, stores }: NodeDependencies,
  copy: LocationRow,
  digests: Digests,
  progress: Progress,
): Promise<void> {
  const { signal } = progress;
  const store = stores.get(copy.store);
  const found = await store.find(copy.key, signal);
  if (found === undefined) {
    throw new ImportError(
      "CopyNotFound",
      `The copy of image "${copy.imageId}" in store "${copy.store}" disappeared before it was published`,
      { hint: "Find out what removes files from the store, and import the image again." },
    );
  }
  if (!mayHaveChanged(copy.version, found.version)) return;
  await using bytes = await store.open(copy.key, signal);
  const isWhole = bytes.sizeBytes === digests.sizeBytes;
  const now = isWhole ? await hashFile(bytes, hashing(digests, progress)) : undefined;
  if (now?.osHashValue !== digests.osHashValue) throw changed(copy);
  await patiently(progress, () => database.query((db) => recordVersion(db, copy, bytes.version)));
}

function hashing({ sizeBytes, osHashAlgo: hashAlgo }: Digests, progress: Progress) {
  const { signal } = progress;
  return { sizeBytes, hashAlgo, signal, report: progress.report };
}

function changed({ imageId, store, shared }: LocationRow): ImportError {
  return shared
    ? new ImportError(
        "StagedDataChanged",
        `The staged data of image "${imageId}", which the copy in store "${store}" shares, changed while it was imported`,
      )
    : new ImportError(
        "DigestMismatch",
        `The copy of image "${imageId}" in store "${store}" changed before it was published`,
        { hint: "Find out what writes to the store, and import the image again." },
      );
}
