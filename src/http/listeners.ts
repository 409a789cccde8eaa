import type { Caller } from "./caller.ts";
import { HttpFailure } from "./http-failure.ts";

/** The number of imports that the callers of one project may follow at once, on one server. */
export const MOST_LISTENERS = 64;

/**
 * The name of the group of callers that share a limit: those of a project, else those of a user.
 */
export function partyOf({ project, user }: Caller): string {
  return project === null ? `user ${user ?? ""}` : `project ${project}`;
}

/** Counts the answers that stay open for each party. */
export class Listeners {
  readonly #open = new Map<string, number>();

  /**
   * Counts one more answer.
   *
   * @returns a function to call once, at the end of the answer
   * @throws HttpFailure 429 if the party has too many
   */
  add(caller: Caller): () => void {
    const party = partyOf(caller);
    const open = this.#open.get(party) ?? 0;
    if (open >= MOST_LISTENERS) throw tooMany(open);
    this.#open.set(party, open + 1);
    return () => {
      const left = (this.#open.get(party) ?? 1) - 1;
      if (left === 0) this.#open.delete(party);
      else this.#open.set(party, left);
    };
  }
}

function tooMany(open: number): HttpFailure {
  return new HttpFailure(
    429,
    `Your project follows ${String(open)} imports here, and may follow ${String(MOST_LISTENERS)} at once.`,
    {
      hint: "End another of these requests, or ask for the report: GET /v1/imports/{image_id}.",
      headers: { "retry-after": "5" },
    },
  );
}
