import { ApplicationFailure, CancellationScope, condition, setHandler } from "@temporalio/workflow";
import { acceptImport, IMPORT_ENDING, type AcceptedCopy } from "./contract.ts";
import type { FailureReport } from "./failure-report.ts";
import { shown } from "./message-arguments.ts";

/** An accepted request; `task_id` is null if there was nothing to copy. */
type Accepted = Pick<AcceptedCopy, "image_id" | "task_id">;

type Verdict =
  | ({ readonly kind: "accepted" } & Accepted)
  | { readonly kind: "refused"; readonly failure: FailureReport };

/**
 * Handles `acceptImport`, which a client sends with the start. The client that started the run gets
 * the result of its claim. Any other client gets a refusal that names the running import.
 */
export class Acceptance {
  readonly #ids: { readonly workflowId: string; readonly runId: string };
  #verdict: Verdict | undefined;
  #isEnding = false;
  #hasReportedRefusal = false;

  constructor(
    requestId: string | undefined,
    ids: { readonly workflowId: string; readonly runId: string },
  ) {
    this.#ids = ids;
    setHandler(acceptImport, (askedBy) => this.#answer(askedBy === requestId), {
      description: "Returns the result of the acceptance: the task id, or the refusal",
      validator: (...args: unknown[]) => {
        if (typeof args[0] === "string" && args.length === 1) return;
        throw ApplicationFailure.nonRetryable(
          `Cannot answer request ${shown(args)}: acceptImport takes one argument, the id of the request, which is a string`,
          "BadRequest",
        );
      },
    });
  }

  /** The claim was taken, or there is nothing to do. */
  accept({ image_id, task_id }: Accepted): void {
    this.#verdict = { kind: "accepted", image_id, task_id };
  }

  /** The import ended before it was accepted. Has no effect after an acceptance. */
  refuse(failure: FailureReport): void {
    this.#verdict ??= { kind: "refused", failure };
  }

  /** True if the client that started this run has the refusal. */
  get hasReportedRefusal(): boolean {
    return this.#hasReportedRefusal;
  }

  /** The claim is released, or soon will be: another import may begin when this run has closed. */
  end(): void {
    this.#isEnding = true;
  }

  async #answer(isOurs: boolean): Promise<AcceptedCopy> {
    // A run that is being cancelled still owes the result of the claim.
    await CancellationScope.nonCancellable(() => condition(() => this.#verdict !== undefined));
    const verdict = this.#verdict;
    if (isOurs && verdict?.kind === "accepted") return this.#accepted(verdict);
    if (isOurs && verdict?.kind === "refused") {
      const { text, ...details } = verdict.failure;
      this.#hasReportedRefusal = true;
      throw ApplicationFailure.nonRetryable(text, details.code, details);
    }
    if (this.#isEnding || verdict?.kind !== "accepted" || verdict.task_id === null) {
      throw ApplicationFailure.nonRetryable(
        "The running import is about to end",
        IMPORT_ENDING,
        this.#ids.runId,
      );
    }
    const { image_id, task_id } = verdict;
    throw ApplicationFailure.nonRetryable(
      `Image "${image_id}" has an active task: ${task_id} imports it`,
      "ImageBusy",
    );
  }

  #accepted({ image_id, task_id }: Accepted): AcceptedCopy {
    return {
      image_id,
      task_id,
      workflow_id: this.#ids.workflowId,
      run_id: this.#ids.runId,
    };
  }
}
