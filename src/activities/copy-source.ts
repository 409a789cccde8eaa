import { activityInfo, log } from "@temporalio/activity";
import { rebuildCrc } from "../bytes/copy-blocks.ts";
import type { ZeroBlocks } from "../bytes/zero-blocks.ts";
import {
  listLiveLocations,
  recordDamage,
  recordVersion,
  type LocationRow,
} from "../db/image-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import { inReadingOrder, lookAtCopy, MISSING } from "../stores/readable-copy.ts";
import {
  copySourceOf,
  mayHaveChanged,
  type Copied,
  type CopySource,
  type OpenCopy,
  type PrivateCopy,
} from "../stores/store.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { patiently } from "./patiently.ts";
import type { Progress } from "./progress.ts";
import {
  changeStaged,
  linkStaged,
  openTrustedStaged,
  requireAsRecorded,
  requireInPlace,
  type Linking,
  type StagedOrder,
} from "./staged-data.ts";

/** The bytes to copy. */
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
  /** Undefined if no step has read the bytes yet. */
  readonly crc32: number | undefined;
  readonly zeroBlocks?: ZeroBlocks;
  /**
   * Makes the copy another name of the source's file, if the store may have one.
   *
   * @returns undefined if the copy must be made in another way
   */
  link(linking: Linking): Promise<PrivateCopy | undefined>;
  /** True if the copy is another name of the source's inode. */
  isSharedWith(copy: OpenCopy): Promise<boolean>;
  /** Makes sure that a link or clone was made of the opened file. */
  requireInPlace(copied: Copied): Promise<void>;
  /**
   * Makes sure that a copy made without reading the source has the bytes of the source's crc32.
   *
   * @throws ImportError `StagedDataChanged`; `CopyMismatch` when the source is damaged, and there
   *   is another one; `DigestMismatch` when there is none
   */
  requireUnchanged(copied: Copied, progress: Progress): Promise<void>;
  /**
   * Called when a copy differs from the source: makes sure that the source itself is undamaged.
   *
   * @throws ImportError `CopyMismatch` when the source itself is damaged, and there is another one;
   *   `DigestMismatch` when there is none; `StagedDataChanged`
   */
  requireSound(progress: Progress): Promise<void>;
  /**
   * Publishes a copy. That changes a shared inode, which other steps must not mistake for a change
   * of the source.
   */
  whilePublishing(copied: Copied, publish: () => Promise<void>): Promise<void>;
}

/**
 * Opens the source of an import's copies: the staged bytes, or a copy of an active image.
 *
 * @throws ImportError `StagedDataMissing`, `StagedDataRefused`, `StagedDataChanged`;
 *   `CopyNotFound`, `StoreUnavailable`, `DigestMismatch` when every copy is damaged
 */
export async function openSource(
  dependencies: NodeDependencies,
  order: SourceOrder,
  progress: Progress,
): Promise<OpenSource> {
  return order.from === "stores"
    ? openReadableCopy(dependencies, order, progress)
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
    link: (linking) => linkStaged(dependencies, staged, linking),
    isSharedWith: (copy) => copy.isNameOf(staged.handle),
    requireInPlace: async ({ method }) => {
      // A link or a clone is made of the file at the path; the verdict is about the open file.
      if (method !== "copy") await requireInPlace(staged);
    },
    requireUnchanged: async ({ method }, progress) => {
      if (method !== "copy") await requireAsRecorded(dependencies, staged, progress);
    },
    requireSound: async (progress) => {
      const { handle, sizeBytes, digests, path } = staged;
      if (digests === undefined) return;
      const crc32 = await rebuildCrc(handle, sizeBytes, progress.signal, () => {
        // Every byte was copied before; this only shows that the step still moves.
        progress.report(sizeBytes);
      });
      if (crc32 === digests.crc32) return;
      throw new ImportError(
        "StagedDataChanged",
        `The staged data "${path}" has other bytes than when it was hashed, although its size and times are the same`,
        { hint: "Check the disk below the staging area, and stage the image again." },
      );
    },
    whilePublishing: async ({ shared }, publish) => {
      // Publishing changes the number of links of a shared inode, and with it the ctime of the
      // staged file.
      if (shared) {
        await dependencies.database.transaction((db) => changeStaged(db, staged, publish));
      } else await publish();
    },
    [Symbol.asyncDispose]: () => staged[Symbol.asyncDispose](),
  };
}

/**
 * Opens the first copy that can be read. Copies that are known to be damaged are read before a byte
 * of them is written anywhere.
 */
async function openReadableCopy(
  dependencies: NodeDependencies,
  { image_id }: SourceOrder,
  progress: Progress,
): Promise<OpenSource> {
  const { database, stores } = dependencies;
  const locations = await database.query((db) => listLiveLocations(db, image_id));
  const { attempt } = activityInfo();
  const looks: Look[] = [];
  for (const location of inReadingOrder(locations, stores.defaultName, attempt)) {
    const look = await lookAt(dependencies, location, progress);
    if (look.copy !== undefined) return publishedSource(dependencies, look.copy, location);
    looks.push(look);
  }
  throw notReadable(image_id, locations, looks);
}

/** The result of a look at a location. */
interface Look {
  readonly location: LocationRow;
  /** Open for reading, when it can be the source. */
  readonly copy?: OpenCopy | undefined;
  /** The difference from the image. */
  readonly damage?: string | undefined;
  /** The error of the read. */
  readonly failure?: unknown;
}

async function lookAt(
  dependencies: NodeDependencies,
  location: LocationRow,
  progress: Progress,
): Promise<Look> {
  const { signal } = progress;
  try {
    const { copy, damage } = await lookAtCopy(dependencies.stores, location, signal);
    if (damage !== undefined) {
      await rememberDamage(dependencies, location, damage, progress);
      return { location, damage };
    }
    if (location.damage === null) return { location, copy };
    return await lookAgain(dependencies, location, copy, progress);
  } catch (failure) {
    signal.throwIfAborted();
    return { location, failure };
  }
}

/** Reads a copy that was damaged: it may have been restored. */
async function lookAgain(
  dependencies: NodeDependencies,
  location: LocationRow,
  copy: OpenCopy,
  progress: Progress,
): Promise<Look> {
  try {
    const damage = await damageOf(copy, location, progress);
    await rememberDamage(dependencies, location, damage, progress);
    if (damage === null) return { location, copy };
    await copy.close();
    return { location, damage };
  } catch (error) {
    await copy.close();
    throw error;
  }
}

/** Reads a copy. @returns why it is not the image; null when it is */
async function damageOf(
  copy: OpenCopy,
  { sizeBytes, crc32: expected }: LocationRow,
  progress: Progress,
): Promise<string | null> {
  const crc32 = await rebuildCrc(copy, sizeBytes, progress.signal, progress.report);
  if (crc32 === expected) return null;
  return `its crc32 is ${crc32.toString(16)}, not ${expected.toString(16)}`;
}

async function rememberDamage(
  { database }: NodeDependencies,
  location: LocationRow,
  damage: string | null,
  progress: Progress,
): Promise<void> {
  if (damage === location.damage) return;
  const { imageId, store, key } = location;
  if (damage === null) log.info("A damaged copy is intact again", { imageId, store, key });
  else log.error("A copy of an image is damaged", { imageId, store, key, damage });
  await patiently(progress, () => database.query((db) => recordDamage(db, location, damage)));
}

function publishedSource(
  dependencies: NodeDependencies,
  copy: OpenCopy,
  location: LocationRow,
): OpenSource {
  const { imageId, sizeBytes, crc32, version, shared } = location;
  const requireSound = async (progress: Progress): Promise<void> => {
    const damage = await damageOf(copy, location, progress);
    await rememberDamage(dependencies, location, damage, progress);
    if (damage === null) return;
    const all = await patiently(progress, () =>
      dependencies.database.query((db) => listLiveLocations(db, imageId)),
    );
    const others = all.filter((each) => each.damage === null);
    throw others.length > 0 ? nextSource(location, damage, others) : allDamaged(imageId, all);
  };
  return {
    bytes: copy,
    sizeBytes,
    crc32,
    // A published copy belongs to its store: each store gets bytes or blocks of its own.
    link: async () => undefined,
    isSharedWith: async () => false,
    requireInPlace: async () => undefined,
    requireUnchanged: async ({ method }, progress) => {
      if (method === "copy") return;
      const { store, key } = location;
      const now = await dependencies.stores.get(store).find(key, progress.signal);
      // The copy was made without reading the source. If the source did not change since it was
      // checked, the copy has the bytes of the recorded crc32.
      const isAsChecked = !mayHaveChanged(version, copy.version, shared);
      if (isAsChecked && now !== undefined && !mayHaveChanged(copy.version, now.version)) return;
      await requireSound(progress);
      await patiently(progress, () =>
        dependencies.database.query((db) => recordVersion(db, location, copy.version)),
      );
    },
    requireSound,
    whilePublishing: (_copied, publish) => publish(),
    [Symbol.asyncDispose]: () => copy.close(),
  };
}

function nextSource(
  { imageId, store }: LocationRow,
  damage: string,
  others: readonly LocationRow[],
): ImportError {
  return new ImportError(
    "CopyMismatch",
    `The copy of image "${imageId}" in store "${store}" is damaged (${damage}); the next attempt copies from ${namesOf(others)}`,
    { hint: `\`image-import image verify ${imageId}\` checks all copies.` },
  );
}

function allDamaged(imageId: string, locations: readonly LocationRow[]): ImportError {
  const named = locations.map(({ store, damage }) => `"${store}": ${damage ?? "not read"}`);
  return new ImportError(
    "DigestMismatch",
    `Every copy of image "${imageId}" is damaged (${named.join("; ")})`,
    {
      hint: `Restore one of the files and run \`image-import image verify ${imageId}\`, or import the image again.`,
    },
  );
}

function notReadable(
  imageId: string,
  locations: readonly LocationRow[],
  looks: readonly Look[],
): ImportError {
  const unreachable = looks.find(({ failure }) => failure !== undefined);
  if (unreachable !== undefined) {
    return new ImportError(
      "StoreUnavailable",
      `No copy of image "${imageId}" can be read now (in ${namesOf(locations)}): ${reasonOf(unreachable.failure)}`,
      { cause: unreachable.failure },
    );
  }
  if (looks.some(({ damage }) => damage !== MISSING)) {
    return allDamaged(
      imageId,
      looks.map(({ location, damage = null }) => ({ ...location, damage })),
    );
  }
  return new ImportError(
    "CopyNotFound",
    `Image "${imageId}" not found in any configured store; the catalogue names ${namesOf(locations) || "none"}`,
    { hint: "`image-import image verify <image-id>` shows which copies are missing or damaged." },
  );
}

function namesOf(locations: readonly LocationRow[]): string {
  return locations.map(({ store }) => `"${store}"`).join(", ");
}

function reasonOf(failure: unknown): string {
  return failure instanceof Error ? failure.message : "it failed";
}
