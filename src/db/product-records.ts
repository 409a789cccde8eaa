import { and, eq, sql } from "drizzle-orm";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import { isLater, type AttemptOrder } from "../domain/attempt-order.ts";
import { ImportError } from "../domain/import-failure.ts";
import { requireClaim, type ImportId } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import { stagedFiles, type MadeProduct } from "./schema.ts";
import {
  findStaged,
  isStaged,
  stagedColumns,
  type StagedData,
  type StagedRow,
} from "./staged-records.ts";

/** The key of a product. */
export interface ProductId extends ImportId {
  /** At least 1. */
  readonly product: number;
}

/** An attempt at a product, and its names. */
export interface ProductAttempt extends ProductId {
  readonly node: string;
  readonly token: string;
  readonly writer: ProcessIdentity;
  /** Default: null, an attempt that comes before all others. */
  readonly attempt?: AttemptOrder | null;
  /** Attempt-private name inside the staging root. */
  readonly part: string;
  /** Absolute path of the finished product; no other attempt has it. */
  readonly path: string;
}

/**
 * Takes the lease of a product for an attempt, from the attempt that held it.
 *
 * @returns the row before: the attempt removes its files, and then calls
 *   {@link beginProduct}
 * @throws ImportError `ImportLost`; `AttemptOvertaken` when the attempt is late;
 *   `StagingUnavailable`, retried, while it lies on another node and waits to be swept
 */
export async function takeProduct(
  db: Queries,
  attempt: ProductAttempt,
): Promise<StagedRow | undefined> {
  await requireClaim(db, attempt);
  const before = await findStaged(db, attempt.imageId, attempt.product);
  if (before === undefined) {
    await db
      .insert(stagedFiles)
      .values({ imageId: attempt.imageId, product: attempt.product, ...columnsOf(attempt) });
    return undefined;
  }
  if (before.node !== attempt.node) {
    throw new ImportError(
      "StagingUnavailable",
      `Cannot transform image "${attempt.imageId}": a product of an earlier import still lies on node "${before.node}"`,
      { hint: "The worker of that node removes it; the step is retried automatically." },
    );
  }
  const { token, writer, attempt: order = null } = attempt;
  if (before.epoch === attempt.epoch) requireNotLate(before, attempt);
  // Its names stay until its files are gone: the next attempt removes them if this one dies before.
  await db
    .update(stagedFiles)
    .set({ state: "staging", token, writer, attempt: order, made: null })
    .where(isHeld(attempt, before.token));
  return before;
}

/** A step that was reset, or timed out, must not take away what its successor makes. */
function requireNotLate(held: StagedRow, attempt: ProductAttempt): void {
  if (attempt.attempt != null && isLater(held.attempt, attempt.attempt)) throw lostProduct(attempt);
}

function columnsOf(product: ProductAttempt) {
  const { epoch, node, token, writer, part, path, attempt = null } = product;
  return { epoch, node, token, writer, attempt, part, path, state: "staging", ours: true } as const;
}

function isHeld({ imageId, product }: ProductId, token: string) {
  return and(isStaged(imageId, product), eq(stagedFiles.token, token));
}

/**
 * Replaces the row once the files of the earlier attempt are gone.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt has taken it, `ImportLost`
 */
export async function beginProduct(db: Queries, attempt: ProductAttempt): Promise<void> {
  await requireClaim(db, attempt);
  const ours = await db
    .delete(stagedFiles)
    .where(isHeld(attempt, attempt.token))
    .returning({ product: stagedFiles.product });
  if (ours.length === 0) throw lostProduct(attempt);
  await db
    .insert(stagedFiles)
    .values({ imageId: attempt.imageId, product: attempt.product, ...columnsOf(attempt) });
}

/**
 * Makes sure that this attempt still holds the lease.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt holds it, `ImportLost` when the
 *   import was undone
 */
export async function requireProduct(
  db: Queries,
  attempt: ProductId & { readonly token: string },
): Promise<void> {
  await requireClaim(db, attempt);
  const row = await findStaged(db, attempt.imageId, attempt.product);
  if (row?.token !== attempt.token) throw lostProduct(attempt);
}

/**
 * Records that a product is complete under its path.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt holds the lease, `ImportLost`
 */
export async function finishProduct(
  db: Queries,
  attempt: ProductAttempt,
  staged: StagedData,
  made: MadeProduct,
): Promise<void> {
  await requireClaim(db, attempt);
  const ours = await db
    .update(stagedFiles)
    .set({ ...stagedColumns(staged), state: "staged", part: null, made })
    .where(isHeld(attempt, attempt.token))
    .returning({ product: stagedFiles.product });
  if (ours.length === 0) throw lostProduct(attempt);
}

function lostProduct({ imageId, product }: Pick<ProductId, "imageId" | "product">): ImportError {
  return new ImportError(
    "AttemptOvertaken",
    `Another attempt makes product ${String(product)} of image "${imageId}", or an undo has taken it away`,
  );
}

/**
 * Takes all products of an import away from the attempts that make them, for their removal.
 *
 * @returns their rows before
 * @throws ImportError `AttemptOvertaken` when a later run of the same import makes one of them
 */
export async function takeProductsAway(
  db: Queries,
  { imageId, epoch }: ImportId,
  taker: {
    readonly node: string;
    readonly token: string;
    readonly writer: ProcessIdentity;
    /** Place of the undo among the attempts. Default: null, no attempt comes after it. */
    readonly attempt?: AttemptOrder | null;
  },
): Promise<StagedRow[]> {
  const isOfImport = and(
    eq(stagedFiles.imageId, imageId),
    eq(stagedFiles.epoch, epoch),
    eq(stagedFiles.node, taker.node),
    sql`${stagedFiles.product} > 0`,
  );
  const { token, writer, attempt = null } = taker;
  const held = await db.select().from(stagedFiles).where(isOfImport).for("update");
  const later = held.find((row) => attempt !== null && isLater(row.attempt, attempt));
  if (later !== undefined) throw lostProduct(later);
  return db
    .update(stagedFiles)
    .set({ state: "staging", token, writer, attempt, made: null })
    .where(isOfImport)
    .returning();
}
