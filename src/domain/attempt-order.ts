/**
 * Where an attempt of a step stands among all attempts that may write the same thing. Travels
 * through JSON and Postgres.
 */
export interface AttemptOrder {
  /** Temporal's id of the run. A reset makes another run, which goes on with the same claim. */
  readonly run: string;
  /** Number of the step in its run: a step that is scheduled later has a higher one. */
  readonly activity: number;
  /** Number of the attempt of that step, from 1. */
  readonly attempt: number;
  /** When Temporal's server scheduled this attempt, in ms since 1970. */
  readonly scheduledAtMs: number;
}

/**
 * Whether one attempt comes after another, so that the other is late: it timed out, or its run was
 * reset, and the process that runs it has not learnt of it yet.
 *
 * Within a run the numbers decide, and not against the server's clock: a server that was replaced
 * by its backup gives numbers a second time, and a clock may be set back. Where the two disagree
 * neither attempt is late, the newer one takes over, and the other is retried. Between two runs
 * there is only the clock.
 *
 * @param one - null: an attempt of a version that kept no order, which comes before all others
 */
export function isLater(one: AttemptOrder | null, other: AttemptOrder): boolean {
  if (one === null) return false;
  if (one.run !== other.run) return one.scheduledAtMs > other.scheduledAtMs;
  const isHigher =
    one.activity === other.activity ? one.attempt > other.attempt : one.activity > other.activity;
  return isHigher && one.scheduledAtMs >= other.scheduledAtMs;
}
