import {
  ActivityFailure,
  log,
  ParentClosePolicy,
  patched,
  startChild,
  TimeoutFailure,
} from "@temporalio/workflow";
import type { Abandoned, AbandonedCopy } from "../activities/find-abandoned.ts";
import type { ProbedStores } from "../activities/probe-stores.ts";
import { abandonedTask } from "../domain/task-failure.ts";
import { copyRemovalWorkflowId, deletionWorkflowId, type CopyToRemove } from "./contract.ts";
import { deleteImage, removeImageCopy } from "./delete-image.ts";
import { describeFailure, type FailureReport } from "./failure-report.ts";
import { control, probeSteps, sweepSteps, undoSteps } from "./steps.ts";

/** What a reconciliation undid. */
export interface Reconciled {
  readonly claims: number;
  readonly copies: number;
  /** Of images, and of single copies. */
  readonly deletions: number;
  /** What could not be done now; the next reconciliation tries again. */
  readonly failures: readonly string[];
}

/**
 * Undoes what no running import owns: a terminated run, a reset one, one whose history was lost,
 * and an undo that could not reach its store. Runs on a Schedule; each run stands alone.
 */
export async function reconcileImports(): Promise<Reconciled> {
  const found = await control.findAbandoned.executeWithOptions(
    { summary: "what does no running import own?" },
    [],
  );
  const reconciliation = new Reconciliation();
  // Histories of 0.1.0 have it one after the other.
  if (patched("reconcile-side-by-side")) await reconciliation.runSideBySide(found);
  else await reconciliation.runInOrder(found);
  if (patched("expire-tasks")) await reconciliation.expireTasks();
  return reconciliation.result;
}

// Of one store on one node: enough to hide the way there, and few enough to leave slots of the node
// to running imports.
const COPIES_AT_ONCE = 4;
// Steps that need only the catalogue, and starts of workflows.
const OTHERS_AT_ONCE = 20;

/** One reconciliation: what it does, and its result. */
class Reconciliation {
  readonly #failures: string[] = [];
  readonly #done = { claims: 0, copies: 0, deletions: 0 };
  readonly #probes = new Map<string, Promise<ProbedStores>>();
  readonly #lines = new Map<string, Line>();

  get result(): Reconciled {
    return { ...this.#done, failures: this.#failures };
  }

  /**
   * All at once, so that a store or node which is away holds up nothing but its own: each node is
   * asked first whether it answers and which of its stores work, and what lies in the others is
   * left to the next reconciliation. A claim is released when its copies are gone, or can't be
   * removed now: their leases stay.
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

  /** Removes the records of tasks whose time to live has passed. */
  async expireTasks(): Promise<void> {
    await this.#attempt(undefined, "records of tasks", () =>
      control.expireTasks.executeWithOptions({ summary: "remove expired tasks" }, []),
    );
  }

  /** As 0.1.0 did it. */
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

  async #removeInLine(copy: AbandonedCopy): Promise<void> {
    const { node, store } = copy;
    const line = `${node} ${store}`;
    let reason: string | null | undefined;
    try {
      reason = (await this.#probe(node))[store];
    } catch (error) {
      reason = `its node does not answer (${describeFailure(error).text})`;
    }
    await this.#inLine(line, COPIES_AT_ONCE, async () => {
      const away = reason ?? this.#lines.get(line)?.away;
      if (away === undefined) await this.#remove(copy);
      else this.#fail(nameOf(copy), { code: "StoreUnavailable", text: away });
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
      probeSteps(node).probeStores.executeWithOptions({ summary: `does ${node} answer?` }, []);
    this.#probes.set(node, probe);
    return probe;
  }

  /** Runs when fewer than so many others of the line run. */
  async #inLine(name: string, atOnce: number, work: () => Promise<void>): Promise<void> {
    const line = this.#lines.get(name) ?? new Line(atOnce);
    this.#lines.set(name, line);
    await line.run(work);
  }

  async #remove(copy: AbandonedCopy): Promise<void> {
    const { image_id, epoch, store, node } = copy;
    await this.#attempt("copies", nameOf(copy), async () => {
      try {
        await undoSteps({ node }).removeCopy.executeWithOptions(
          { summary: `remove a copy in ${store}` },
          [{ image_id, epoch, store }],
        );
      } catch (error) {
        const line = this.#lines.get(`${node} ${store}`);
        if (line !== undefined && ranOutOfTime(error)) line.away = describeFailure(error).text;
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
    await this.#attempt(undefined, `sweep of ${node}`, () =>
      sweepSteps(node).sweepNode.executeWithOptions({ summary: `sweep ${node}` }, []),
    );
  }

  async #attempt(
    counted: "claims" | "copies" | "deletions" | undefined,
    what: string,
    work: () => Promise<unknown>,
  ): Promise<void> {
    try {
      await work();
      if (counted !== undefined) this.#done[counted] += 1;
    } catch (error) {
      this.#fail(what, describeFailure(error));
    }
  }

  #fail(what: string, { code, text }: FailureReport): void {
    log.warn("Could not reconcile, the next run tries again", { what, code, text });
    this.#failures.push(`${what}: ${code}: ${text}`);
  }
}

/** Work that waits until there is room for it. */
class Line {
  /** Why all that still waits is given up. */
  away: string | undefined;
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

/**
 * Whether a step was retried until its bound: the next one of the same store would wait as long.
 */
function ranOutOfTime(error: unknown): boolean {
  if (!(error instanceof ActivityFailure)) return false;
  return error.cause instanceof TimeoutFailure || error.retryState === "TIMEOUT";
}

function nameOf({ image_id, store }: AbandonedCopy): string {
  return `copy of ${image_id} in ${store}`;
}

async function release(claim: {
  readonly image_id: string;
  readonly workflow_id: string;
  readonly run_id: string;
}): Promise<void> {
  const { image_id, workflow_id, run_id } = claim;
  await control.releaseImport.executeWithOptions({ summary: `release ${image_id}` }, [
    {
      image_id,
      workflow_id,
      run_id,
      ...abandonedTask("its run was ended without an undo"),
      failed_stores: [],
    },
  ]);
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
    // Its own workflow runs already.
    if (!(error instanceof Error) || error.name !== "WorkflowExecutionAlreadyStartedError")
      throw error;
  }
}
