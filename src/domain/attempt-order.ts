/**
 * The position of an attempt among all attempts that may write the same file or row. It is stored
 * as JSON, also in Postgres.
 */
export interface AttemptOrder {
  /** Temporal's id of the run. A reset makes another run, which continues with the same claim. */
  readonly run: string;
  /** Number of the step in its run: a step that is scheduled later has a higher one. */
  readonly activity: number;
  /** Number of the attempt of that step, from 1. */
  readonly attempt: number;
  /** The time at which Temporal's server scheduled this attempt, in ms since 1970. */
  readonly scheduledAtMs: number;
}

/**
 * True if one attempt comes after another. The other is late then: it timed out, or its run was
 * reset, and the process that runs it does not know yet.
 *
 * Within a run the numbers decide, unless the server's clock contradicts: a server that was
 * restored from a backup assigns numbers a second time, and a clock may be set back. If the two
 * disagree, neither attempt is late: the newer one takes over, and the other is retried. Between
 * two runs only the clock decides.
 *
 * @param one - null: an attempt of a version that kept no order; it comes before all others
 */
export function isLater(one: AttemptOrder | null, other: AttemptOrder): boolean {
  if (one === null) return false;
  if (one.run !== other.run) return one.scheduledAtMs > other.scheduledAtMs;
  const isHigher =
    one.activity === other.activity ? one.attempt > other.attempt : one.activity > other.activity;
  return isHigher && one.scheduledAtMs >= other.scheduledAtMs;
}
