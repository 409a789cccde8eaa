import { ApplicationFailure, CancellationScope, condition, setHandler } from "@temporalio/workflow";
import { acceptImport, IMPORT_ENDING, type AcceptedCopy } from "./contract.ts";
import type { FailureReport } from "./failure-report.ts";

/** What was accepted; nothing to do is no task. */
type Accepted = Pick<AcceptedCopy, "image_id" | "task_id">;

type Verdict =
  | ({ readonly kind: "accepted" } & Accepted)
  | { readonly kind: "refused"; readonly failure: FailureReport };

/**
 * Answers `acceptImport`, which a client sends with the start: whoever started the run gets the
 * verdict of its claim, anybody else is told which import holds the image.
 */
export class Acceptance {
  readonly #ids: { readonly workflowId: string; readonly runId: string };
  #verdict: Verdict | undefined;
  #isEnding = false;

  constructor(
    requestId: string | undefined,
    ids: { readonly workflowId: string; readonly runId: string },
  ) {
    this.#ids = ids;
    setHandler(acceptImport, (askedBy) => this.#answer(askedBy === requestId), {
      description: "Answers with the verdict of the acceptance: the task id, or the refusal",
      validator: (askedBy: unknown) => {
        if (typeof askedBy === "string") return;
        throw ApplicationFailure.nonRetryable(
          "Cannot answer acceptImport: its argument must be the id of the request, a text",
          "BadRequest",
        );
      },
    });
  }

  /** The claim was taken, or there is nothing to do. */
  accept({ image_id, task_id }: Accepted): void {
    this.#verdict = { kind: "accepted", image_id, task_id };
  }

  /** The import ended before it was accepted. After an acceptance this changes nothing. */
  refuse(failure: FailureReport): void {
    this.#verdict ??= { kind: "refused", failure };
  }

  /** The claim is free, or about to be: another import may begin once this run has closed. */
  end(): void {
    this.#isEnding = true;
  }

  async #answer(isOurs: boolean): Promise<AcceptedCopy> {
    // Also a run that is being cancelled owes an answer: what became of the claim.
    await CancellationScope.nonCancellable(() => condition(() => this.#verdict !== undefined));
    const verdict = this.#verdict;
    if (isOurs && verdict?.kind === "accepted") return this.#accepted(verdict);
    if (isOurs && verdict?.kind === "refused") {
      const { text, ...details } = verdict.failure;
      throw ApplicationFailure.nonRetryable(text, details.code, details);
    }
    if (this.#isEnding || verdict?.kind !== "accepted" || verdict.task_id === null) {
      throw ApplicationFailure.nonRetryable(
        "The import that ran is just ending",
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
