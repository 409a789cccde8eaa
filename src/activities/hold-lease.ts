import { randomUUID } from "node:crypto";
import { cancellationDetails } from "@temporalio/activity";
import { newPartName } from "../bytes/part-name.ts";
import type { Queries } from "../db/connect.ts";
import { takeAbandonedLease, takeLease, updateLease, type LeaseId } from "../db/lease-records.ts";
import { findStaged, type StagedRow } from "../db/staged-facts.ts";
import { beginProcessing } from "../db/task-records.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import { ImportError } from "../domain/import-failure.ts";
import { isInStaging } from "../domain/place.ts";
import { thisProcess } from "../processes/process-identity.ts";
import { attemptKey, currentAttempt, isOver, type Previous } from "./attempts.ts";
import type { NodeDependencies } from "./dependencies.ts";
import type { Progress } from "./progress.ts";
import { removeEarlierParts, removeTaken } from "./release-lease.ts";

/** A lease that an attempt holds. */
export interface HeldLease {
  readonly id: LeaseId;
  readonly token: string;
  /** Private name of the bytes while they are written. */
  readonly part: string;
  /** Name of the complete bytes: an absolute path in staging, a key in a store. */
  readonly path: string;
  /** The lease of the earlier attempt of this import; undefined: there was none. */
  readonly before: StagedRow | undefined;
  /** True if that attempt is over and this one continues its part. */
  readonly resumes: boolean;
}

/** The rules of one kind of bytes. */
export interface LeasePolicy<Result> {
  /** Returns the name that the complete bytes of a part will have. */
  readonly pathOf: (part: string) => string;
  /** Returns the result of an earlier attempt that finished; undefined if there is none. */
  readonly resultOf: (
    lease: StagedRow,
    signal: AbortSignal,
  ) => Promise<Result | undefined> | Result | undefined;
  /**
   * True if the part of an earlier attempt may be continued once that attempt is over. Default: no
   * part is.
   */
  readonly mayResume?: (lease: StagedRow) => boolean;
  /** Runs in the transaction that takes the lease. Default: nothing runs */
  readonly alsoTake?: (db: Queries, attempt: AttemptOrder) => Promise<void>;
}

/** The step that writes. */
interface WritingOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly task_id: string;
}

/**
 * Writes bytes as the only attempt that may write them: ends the earlier attempts in this process,
 * takes the lease, and runs the work. The part of an attempt that is over is continued where the
 * policy allows it; the others are removed. An attempt whose import lost its claim meanwhile
 * removes its bytes.
 *
 * @param work - writes the bytes and finishes the lease; its signal is aborted when another attempt
 *   takes over
 * @throws ImportError `ImportLost`; `AttemptOvertaken` when this attempt is late; what the work
 *   throws
 */
export async function holdLease<Result>(
  dependencies: NodeDependencies,
  order: WritingOrder,
  place: LeaseId["place"],
  policy: LeasePolicy<Result>,
  progress: Progress,
  work: (held: HeldLease, progress: Progress) => Promise<Result>,
): Promise<Result> {
  const id: LeaseId = { imageId: order.image_id, epoch: order.epoch, place };
  const attempt = currentAttempt();
  return dependencies.attempts.run(
    attemptKey(id),
    async (takenOver, previous) => {
      const signal = AbortSignal.any([progress.signal, takenOver]);
      const taken = await take(dependencies, { id, order, policy, attempt, previous, signal });
      if ("result" in taken) return taken.result;
      try {
        return await work(taken, { signal, report: progress.report, showLife: progress.showLife });
      } catch (error) {
        // Bytes that cannot be removed now keep their lease, and the reconciler removes them. The
        // caller must get the reason.
        if (mayBeLost(error)) await removeOrphaned(dependencies, taken).catch(() => undefined);
        if (isLost(error)) await discardOwn(dependencies, taken).catch(() => undefined);
        throw error;
      }
    },
    attempt,
  );
}

/** The facts with which an attempt takes a lease. */
interface Taking<Result> {
  readonly id: LeaseId;
  readonly order: WritingOrder;
  readonly policy: LeasePolicy<Result>;
  readonly attempt: AttemptOrder;
  readonly previous: Previous;
  readonly signal: AbortSignal;
}

/** Takes the lease for this attempt, or finds that an earlier one finished. */
async function take<Result>(
  dependencies: NodeDependencies,
  { id, order, policy, attempt, previous, signal }: Taking<Result>,
): Promise<HeldLease | { readonly result: Result }> {
  const { database, staging } = dependencies;
  const holder = { node: staging.node, token: randomUUID(), writer: await thisProcess(), attempt };
  for (;;) {
    const before = await database.query((db) => findStaged(db, id));
    const result = before === undefined ? undefined : await policy.resultOf(before, signal);
    if (result !== undefined) return { result };
    const resumes = await isResumable(before, policy, previous);
    const left = resumes ? before : undefined;
    const part = left?.part ?? newPartName(id.imageId, id.epoch);
    const path = left?.path ?? policy.pathOf(part);
    // A part that is not continued is removed. If its writer is still alive, it continues writing
    // to a file without a name, which is never published.
    const earlierParts = [...(before?.earlierParts ?? []), before?.part].flatMap((name) =>
      name == null || name === part ? [] : [name],
    );
    const names = { part, path, earlierParts, resumes };
    const isTaken = await database.transaction(async (db) => {
      if (!(await takeLease(db, id, { ...holder, ...names }, before))) return false;
      await beginProcessing(db, order.task_id);
      await policy.alsoTake?.(db, attempt);
      return true;
    });
    // Another attempt may have taken the lease since it was read. Then the part belongs to that
    // attempt.
    if (!isTaken) continue;
    if (earlierParts.length > 0) {
      // Removed after the lease was taken: an attempt that stood still before this line would
      // otherwise remove the part of a later one.
      await removeEarlierParts(dependencies, { ...id, earlierParts });
      await database.query((db) => updateLease(db, id, holder.token, { earlierParts: [] }));
    }
    return { id, token: holder.token, part, path, before, resumes };
  }
}

async function isResumable<Result>(
  lease: StagedRow | undefined,
  policy: LeasePolicy<Result>,
  previous: Previous,
): Promise<boolean> {
  // A lease that was taken away has no part: the writer that lost it may be alive.
  if (lease?.part == null || policy.mayResume?.(lease) !== true) return false;
  return isOver(lease.writer, previous);
}

function isLost(error: unknown): boolean {
  return error instanceof ImportError && error.code === "ImportLost";
}

/** True if the failure of an attempt may mean that its import, and so its undo, is over. */
function mayBeLost(error: unknown): boolean {
  return isLost(error) || cancellationDetails()?.notFound === true;
}

/**
 * Removes the bytes of this attempt's lease: the undo of the lost import may have run before this
 * attempt took the lease.
 */
async function removeOrphaned(
  dependencies: NodeDependencies,
  { id, token }: HeldLease,
): Promise<void> {
  await removeTaken(dependencies, (db, taker) => takeAbandonedLease(db, id, taker, token));
}

/**
 * Removes this attempt's file in staging: the undo of the lost import may have run before the file
 * was made, and only this attempt knows the name. No later import uses that name: it contains the
 * epoch.
 */
async function discardOwn(
  { staging }: NodeDependencies,
  { id, part, path }: HeldLease,
): Promise<void> {
  if (isInStaging(id.place)) await staging.discard({ part, path });
}
