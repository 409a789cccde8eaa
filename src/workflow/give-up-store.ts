import { log } from "@temporalio/workflow";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { Undo } from "./compensations.ts";
import type { GivenUp, GivingUp } from "./copies.ts";
import { describeFailure, wasStopped } from "./failure-report.ts";
import type { ImportTracker } from "./import-tracker.ts";
import { control, undoSteps } from "./steps.ts";

/** The undo of a copy in one store. */
export function removalOfCopy(plan: ImportPlan, store: string): Undo {
  return {
    name: `copy in store "${store}"`,
    group: "copies",
    summary: removalSummary(store),
    run: (options) => removeCopy(plan, store, options),
  };
}

function removalSummary(store: string): string {
  return `undo: remove the copy in ${store}`;
}

async function removeCopy(
  plan: ImportPlan,
  store: string,
  options: Pick<Undo, "summary">,
): Promise<void> {
  const { image_id, epoch } = plan;
  await undoSteps(plan).removeCopy.executeWithOptions(options, [{ image_id, epoch, store }]);
}

/** The ways in which an import continues without a store. */
export function givingUp(plan: ImportPlan, tracker: ImportTracker): GivingUp {
  return {
    giveUp: async (store, why, failure) => {
      tracker.gaveUp(store, why, failure);
      await giveUp(plan, store, why);
    },
    leaveOut: async (store) => {
      tracker.gaveUp(store, "dropped", undefined);
      await recordGivenUp(plan, store, "dropped");
    },
  };
}

/** Removes the copy. If that fails, the copy keeps its lease, and the reconciler removes it. */
async function giveUp(plan: ImportPlan, store: string, why: GivenUp): Promise<void> {
  try {
    await removeCopy(plan, store, { summary: removalSummary(store) });
  } catch (error) {
    if (wasStopped(error)) throw error;
    log.warn("Cannot remove the copy of a store that was given up; the reconciler removes it", {
      store,
      ...describeFailure(error),
    });
  }
  await recordGivenUp(plan, store, why);
}

async function recordGivenUp(plan: ImportPlan, store: string, why: GivenUp): Promise<void> {
  const { image_id, epoch } = plan;
  const has_failed = why === "failed";
  await control.giveUpStore.executeWithOptions({ summary: `continue without ${store}` }, [
    { image_id, epoch, store, has_failed },
  ]);
}
