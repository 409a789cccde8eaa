/** The result of one check of a readiness document. */
export interface CheckDocument {
  /** True if it works. */
  readonly ok: boolean;
  /** The time of the last change of `ok`, in ISO 8601. */
  readonly since: string;
  /** The reason why it does not work; null if it does. */
  readonly reason: string | null;
}

/** The body of `/livez`. */
export interface LivenessDocument {
  /** `live`, or `failed`: only a restart helps. */
  readonly status: "live" | "failed";
  /** The name of the program: its process, host, version and configuration. */
  readonly identity: string;
}

/** The body of `/readyz`. */
export interface ReadinessDocument {
  /**
   * `ready`; `starting`: it takes no work yet; `stopping`: it takes no more; `not ready`: a check
   * fails; `failed`: only a restart helps.
   */
  readonly status: "ready" | "starting" | "not ready" | "stopping" | "failed";
  /** The name of the program: its process, host, version and configuration. */
  readonly identity: string;
  /** The things that the program needs, by name: `postgres`, `temporal`, `staging`. */
  readonly checks: Readonly<Record<string, CheckDocument>>;
}
