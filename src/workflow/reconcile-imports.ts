import {
  ActivityFailure,
  log,
  ParentClosePolicy,
  patched,
  startChild,
  TimeoutFailure,
} from "@temporalio/workflow";
import type { Abandoned } from "../activities/find-abandoned.ts";
import type { ProbedStores } from "../activities/probe-stores.ts";
import { abandonedTask } from "../domain/task-failure.ts";
import type { CopyToRemove } from "../domain/undo-order.ts";
import { copyRemovalWorkflowId, deletionWorkflowId, type Reconciled } from "./contract.ts";
import { deleteImage, removeImageCopy } from "./delete-image.ts";
import { describeFailure, type FailureReport } from "./failure-report.ts";
import { countImport, countReconciled, countReconcileFailure } from "./import-metrics.ts";
import { control, probeSteps, reconciling, sweepSteps, undoSteps } from "./steps.ts";

/**
 * Undoes the work of imports that do not run any more: of a terminated or reset run, of a run whose
 * history was lost, and of an undo that could not reach its store. A Schedule starts it; each run
 * is independent of the others.
 */
export async function reconcileImports(): Promise<Reconciled> {
  // This step has no bound: another reconciliation would need the same database.
  const found = await control.findAbandoned.executeWithOptions(
    { summary: "find the work of imports that do not run" },
    [],
  );
  const reconciliation = new Reconciliation();
  // In the first histories of 0.1.0 the work is done in order.
  if (patched("reconcile-side-by-side")) await reconciliation.runSideBySide(found);
  else await reconciliation.runInOrder(found);
  if (patched("expire-tasks")) await reconciliation.expireTasks();
  return reconciliation.result;
}

// Per store and node: enough to hide the latency, and few enough to leave slots of the node to
// running imports.
const COPIES_AT_ONCE = 4;
// For steps that need only the catalogue, and for starts of workflows.
const OTHERS_AT_ONCE = 20;

/** One reconciliation. */
class Reconciliation {
  readonly #failures: string[] = [];
  readonly #done = { claims: 0, copies: 0, deletions: 0, staged: 0, parts: 0, tasks: 0 };
  readonly #probes = new Map<string, Promise<ProbedStores>>();
  readonly #lines = new Map<string, Line>();

  get result(): Reconciled {
    return { ...this.#done, failures: this.#failures };
  }

  /**
   * Does all work side by side: an unreachable store or node delays only its own work. Each node is
   * probed first, and copies in stores that do not work are left to the next reconciliation. A
   * claim is released after its copies were removed, or could not be removed now: their leases
   * stay.
   */
  async runSideBySide({ claims, copies, deletions, removals = [], nodes }: Abandoned) {
    await Promise.all([
      ...claims.map(async (claim) => {
        await Promise.all(claim.copies.map((copy) => this.#removeInLine(copy)));
        await this.#inLine("", OTHERS_AT_ONCE, () => this.#release(claim));
      }),
      ...copies.map((copy) => this.#removeInLine(copy)),
      ...deletions.map((imageId) =>
        this.#inLine("", OTHERS_AT_ONCE, () => this.#goOnDeleting(imageId)),
      ),
      ...removals.map((copy) => this.#inLine("", OTHERS_AT_ONCE, () => this.#goOnRemoving(copy))),
      ...nodes.map((node) => this.#sweepIfAlive(node)),
    ]);
  }

  /** Deletes the records of tasks whose time to live has passed. */
  async expireTasks(): Promise<void> {
    await this.#attempt(undefined, "records of tasks", async () => {
      this.#done.tasks = await reconciling.expireTasks.executeWithOptions(
        { summary: "remove expired tasks" },
        [],
      );
    });
  }

  /** Does all work in order, as in the first histories of 0.1.0. */
  async runInOrder({ claims, copies, deletions, removals = [], nodes }: Abandoned): Promise<void> {
    for (const claim of claims) {
      for (const copy of claim.copies) await this.#remove(copy);
      await this.#release(claim);
    }
    for (const copy of copies) await this.#remove(copy);
    for (const imageId of deletions) await this.#goOnDeleting(imageId);
    for (const copy of removals) await this.#goOnRemoving(copy);
    for (const node of nodes) await this.#sweep(node);
  }

  async #removeInLine(copy: CopyToRemove): Promise<void> {
    const { node, store } = copy;
    const line = `${node} ${store}`;
    let reason: string | null | undefined;
    try {
      reason = (await this.#probe(node))[store];
    } catch (error) {
      reason = `its node is unreachable (${describeFailure(error).text})`;
    }
    await this.#inLine(line, COPIES_AT_ONCE, async () => {
      const unreachable = reason ?? this.#lines.get(line)?.unreachable;
      if (unreachable === undefined) await this.#remove(copy);
      else this.#fail(nameOf(copy), { code: "StoreUnavailable", text: unreachable });
    });
  }

  async #sweepIfAlive(node: string): Promise<void> {
    try {
      await this.#probe(node);
    } catch (error) {
      this.#fail(`sweep of ${node}`, describeFailure(error));
      return;
    }
    await this.#sweep(node);
  }

  async #probe(node: string): Promise<ProbedStores> {
    const probe =
      this.#probes.get(node) ??
      probeSteps(node).probeStores.executeWithOptions(
        { summary: `probe the stores of ${node}` },
        [],
      );
    this.#probes.set(node, probe);
    return probe;
  }

  /** Runs the work when fewer than `atOnce` others of the line run. */
  async #inLine(name: string, atOnce: number, work: () => Promise<void>): Promise<void> {
    const line = this.#lines.get(name) ?? new Line(atOnce);
    this.#lines.set(name, line);
    await line.run(work);
  }

  async #remove(copy: CopyToRemove): Promise<void> {
    const { image_id, epoch, store, node } = copy;
    await this.#attempt("copies", nameOf(copy), async () => {
      try {
        await undoSteps({ node }).removeCopy.executeWithOptions(
          { summary: `remove a copy in ${store}` },
          [{ image_id, epoch, store }],
        );
      } catch (error) {
        const line = this.#lines.get(`${node} ${store}`);
        if (line !== undefined && ranOutOfTime(error))
          line.unreachable = describeFailure(error).text;
        throw error;
      }
    });
  }

  async #release(claim: Abandoned["claims"][number]): Promise<void> {
    await this.#attempt("claims", `claim of ${claim.image_id}`, () => release(claim));
  }

  async #goOnDeleting(imageId: string): Promise<void> {
    await this.#attempt("deletions", `deletion of ${imageId}`, () => goOnDeleting(imageId));
  }

  async #goOnRemoving(copy: CopyToRemove): Promise<void> {
    await this.#attempt("deletions", `removal of the ${nameOf(copy)}`, () => goOnRemoving(copy));
  }

  async #sweep(node: string): Promise<void> {
    await this.#attempt(undefined, `sweep of ${node}`, async () => {
      const { staged, parts } = await sweepSteps(node).sweepNode.executeWithOptions(
        { summary: `sweep ${node}` },
        [],
      );
      this.#done.staged += staged;
      this.#done.parts += parts;
    });
  }

  async #attempt(
    counted: "claims" | "copies" | "deletions" | undefined,
    what: string,
    work: () => Promise<unknown>,
  ): Promise<void> {
    try {
      await work();
      if (counted === undefined) return;
      this.#done[counted] += 1;
      countReconciled(counted);
    } catch (error) {
      this.#fail(what, describeFailure(error));
    }
  }

  #fail(what: string, { code, text }: FailureReport): void {
    log.warn("Cannot reconcile; the next run retries", { what, code, text });
    countReconcileFailure(code);
    this.#failures.push(`${what}: ${code}: ${text}`);
  }
}

/** A queue of work with a limit of concurrency. */
class Line {
  /** The reason for which the waiting work is given up. */
  unreachable: string | undefined;
  readonly #atOnce: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  async run(work: () => Promise<void>): Promise<void> {
    if (this.#running >= this.#atOnce) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
    this.#running += 1;
    try {
      await work();
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }
}

/** True if a step was retried until its bound: the next step in that store would take as long. */
function ranOutOfTime(error: unknown): boolean {
  if (!(error instanceof ActivityFailure)) return false;
  return error.cause instanceof TimeoutFailure || error.retryState === "TIMEOUT";
}

function nameOf({ image_id, store }: CopyToRemove): string {
  return `copy of ${image_id} in ${store}`;
}

async function release(claim: {
  readonly image_id: string;
  readonly workflow_id: string;
  readonly run_id: string;
}): Promise<void> {
  const { image_id, workflow_id, run_id } = claim;
  await reconciling.releaseImport.executeWithOptions({ summary: `release ${image_id}` }, [
    {
      image_id,
      workflow_id,
      run_id,
      ...abandonedTask("its run was ended without an undo"),
      failed_stores: [],
    },
  ]);
  countImport("unknown", "abandoned", "ImportAbandoned");
  log.warn("Import ended", {
    outcome: "abandoned",
    code: "ImportAbandoned",
    image_id,
    workflow_id,
    run_id,
  });
}

async function goOnDeleting(imageId: string): Promise<void> {
  await unlessRunning(() =>
    startChild(deleteImage, {
      workflowId: deletionWorkflowId(imageId),
      args: [imageId],
      parentClosePolicy: ParentClosePolicy.ABANDON,
    }),
  );
}

async function goOnRemoving(copy: CopyToRemove): Promise<void> {
  await unlessRunning(() =>
    startChild(removeImageCopy, {
      workflowId: copyRemovalWorkflowId(copy),
      args: [copy],
      parentClosePolicy: ParentClosePolicy.ABANDON,
    }),
  );
}

async function unlessRunning(start: () => Promise<unknown>): Promise<void> {
  try {
    await start();
  } catch (error) {
    // Its workflow is already running.
    if (!(error instanceof Error) || error.name !== "WorkflowExecutionAlreadyStartedError")
      throw error;
  }
}
