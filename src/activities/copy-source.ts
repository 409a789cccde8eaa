import { activityInfo } from "@temporalio/activity";
import { rebuildCrc } from "../bytes/copy-blocks.ts";
import type { ZeroBlocks } from "../bytes/zero-blocks.ts";
import { listLiveLocations, type LocationRow } from "../db/image-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import { copySourceOf, type Copied, type CopySource, type OpenCopy } from "../stores/store.ts";
import type { NodeDependencies } from "./dependencies.ts";
import type { Progress } from "./progress.ts";
import {
  changingStaged,
  linkingFor,
  openTrustedStaged,
  requireInPlace,
  type StagedOrder,
} from "./staged-data.ts";

/** Which bytes to copy. */
export interface SourceOrder extends StagedOrder {
  /** `stores`: the image is active, and one of its copies is copied. Default: `staging` */
  readonly from?: "staging" | "stores";
  /** The store that is to have the copy. */
  readonly store: string;
}

/** The bytes that a copy is made of, open until they are disposed of. */
export interface OpenSource extends AsyncDisposable {
  readonly bytes: CopySource;
  readonly sizeBytes: number;
  /** Undefined when nobody has read them yet. */
  readonly crc32: number | undefined;
  readonly zeroBlocks?: ZeroBlocks;
  /** As a {@link CopyOrder} has it. */
  readonly linking: (link: () => Promise<void>) => Promise<boolean>;
  /** Whether a copy is another name of the source's inode. */
  isSharedWith(copy: OpenCopy): Promise<boolean>;
  /** Makes sure that what was copied without being read is what was opened. */
  requireInPlace(copied: Copied): Promise<void>;
  /**
   * Asked when a copy differs from the source: makes sure that the copy is to blame.
   *
   * @throws ImportError `DigestMismatch` when the source itself is damaged, and there is no other
   */
  requireSound(progress: Progress): Promise<void>;
  /** Publishes a copy, in such a way that the source is not taken for changed by it. */
  whilePublishing(copied: Copied, publish: () => Promise<void>): Promise<void>;
}

/**
 * Opens what an import copies: the staged bytes, or a copy of an active image.
 *
 * @throws ImportError `StagedDataMissing`, `StagedDataRefused`, `StagedDataChanged`; `CopyNotFound`, `StoreUnavailable`
 */
export async function openSource(
  dependencies: NodeDependencies,
  order: SourceOrder,
  progress: Progress,
): Promise<OpenSource> {
  return order.from === "stores"
    ? openPublished(dependencies, order, progress)
    : openStaged(dependencies, order, progress);
}

async function openStaged(
  dependencies: NodeDependencies,
  order: SourceOrder,
  progress: Progress,
): Promise<OpenSource> {
  const staged = await openTrustedStaged(dependencies, order, progress);
  return {
    bytes: copySourceOf(staged.handle, staged.path),
    sizeBytes: staged.sizeBytes,
    crc32: staged.digests?.crc32,
    zeroBlocks: staged.zeroBlocks,
    linking: linkingFor(dependencies, staged, order.store),
    isSharedWith: (copy) => copy.isNameOf(staged.handle),
    requireInPlace: async ({ method }) => {
      // A link or a clone is made of whatever has the path; what was judged is the open file.
      if (method !== "copy") await requireInPlace(staged);
    },
    requireSound: async (progress) => {
      const { handle, sizeBytes, digests, path } = staged;
      if (digests === undefined) return;
      const crc32 = await rebuildCrc(handle, sizeBytes, progress.signal, () => {
        // Every byte was copied before; this only shows that something moves.
        progress.report(sizeBytes);
      });
      if (crc32 === digests.crc32) return;
      throw new ImportError(
        "StagedDataChanged",
        `The staged data "${path}" has other bytes than when it was hashed, though the file says that nothing changed`,
        { hint: "Check the disk below the staging area, and stage the image again." },
      );
    },
    whilePublishing: async ({ shared }, publish) => {
      // Between the two names of a shared inode the number of links changes, and with it the ctime of what is staged.
      if (shared) await changingStaged(dependencies, staged, publish);
      else await publish();
    },
    [Symbol.asyncDispose]: () => staged[Symbol.asyncDispose](),
  };
}

/**
 * Opens the first copy that can be read: the one in the default store before others, as Glance does; each attempt begins
 * with another, because one that reads back wrong is found out only at the end.
 */
async function openPublished(
  { database, stores }: NodeDependencies,
  { image_id }: SourceOrder,
  { signal }: Progress,
): Promise<OpenSource> {
  const locations = await database.query((db) => listLiveLocations(db, image_id));
  const isDefault = ({ store }: LocationRow): boolean => store === stores.defaultName;
  const inOrder = [...locations.filter(isDefault), ...locations.filter((each) => !isDefault(each))];
  const first = (activityInfo().attempt - 1) % Math.max(1, inOrder.length);
  const failures: unknown[] = [];
  for (const location of [...inOrder.slice(first), ...inOrder.slice(0, first)]) {
    try {
      const store = stores.get(location.store);
      const found = await store.find(location.key, signal);
      if (found?.sizeBytes !== location.sizeBytes) continue;
      return publishedSource(
        await store.open(location.key, signal),
        location,
        locations.length === 1,
      );
    } catch (error) {
      signal.throwIfAborted();
      failures.push(error);
    }
  }
  throw notReadable(image_id, locations, failures);
}

function publishedSource(
  copy: OpenCopy,
  { imageId, store, sizeBytes, crc32 }: LocationRow,
  isOnly: boolean,
): OpenSource {
  return {
    bytes: copy,
    sizeBytes,
    crc32,
    // A published copy is nobody else's to have: each store gets bytes or blocks of its own.
    linking: async () => false,
    isSharedWith: async () => false,
    requireInPlace: async () => undefined,
    requireSound: async (progress) => {
      const { signal } = progress;
      // The next attempt begins with another copy.
      if (
        !isOnly ||
        (await rebuildCrc(copy, sizeBytes, signal, progress.report.bind(progress))) === crc32
      )
        return;
      throw new ImportError(
        "DigestMismatch",
        `The only copy of image "${imageId}", in store "${store}", is damaged: its crc32 is not ${crc32.toString(16)}`,
      );
    },
    whilePublishing: (_copied, publish) => publish(),
    [Symbol.asyncDispose]: () => copy.close(),
  };
}

function notReadable(
  imageId: string,
  locations: readonly LocationRow[],
  failures: readonly unknown[],
): ImportError {
  const stores = locations.map(({ store }) => `"${store}"`).join(", ");
  const [cause] = failures;
  if (cause === undefined) {
    return new ImportError(
      "CopyNotFound",
      `Image "${imageId}" not found in any configured store; the catalogue names ${stores || "none"}`,
      { hint: "`image-import image verify <image-id>` says which copies are missing or damaged." },
    );
  }
  return new ImportError(
    "StoreUnavailable",
    `No copy of image "${imageId}" can be read now (in ${stores}): ${reasonOf(cause)}`,
    { cause },
  );
}

function reasonOf(failure: unknown): string {
  return failure instanceof Error ? failure.message : "it failed";
}
