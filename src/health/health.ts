import type { CheckDocument, LivenessDocument, ReadinessDocument } from "./health-document.ts";
import { RepeatedCheck, type RepeatedCheckOptions } from "./repeated-check.ts";

/** The stages of the life of a program. */
export type LifeStage = "starting" | "running" | "stopping" | "failed";

/** The health of this program: its stage, and what it needs. */
export class Health {
  readonly #checks = new Map<string, RepeatedCheck>();
  #identity: string;
  #stage: () => LifeStage = () => "starting";

  /** The health of a program that is starting, without checks yet. */
  constructor(identity: string) {
    this.#identity = identity;
  }

  /** Sets the name of this program in the documents. */
  nameIt(identity: string): void {
    this.#identity = identity;
  }

  /** Sets the source of the stage. */
  follow(stage: () => LifeStage): void {
    this.#stage = stage;
  }

  /** Starts to check regularly something that this program needs. */
  watch(name: string, check: RepeatedCheckOptions): void {
    const repeated = new RepeatedCheck(check);
    this.#checks.set(name, repeated);
    repeated.start();
  }

  /** Ends the checks. */
  stop(): void {
    for (const check of this.#checks.values()) check.stop();
  }

  /** The document of `/livez`. */
  get liveness(): LivenessDocument {
    const status = this.#stage() === "failed" ? "failed" : "live";
    return { status, identity: this.#identity };
  }

  /** The document of `/readyz`. */
  get readiness(): ReadinessDocument {
    const checks = Object.fromEntries(
      [...this.#checks].map(([name, { result }]) => [name, result]),
    );
    return { status: this.#status(Object.values(checks)), identity: this.#identity, checks };
  }

  #status(checks: readonly CheckDocument[]): ReadinessDocument["status"] {
    const stage = this.#stage();
    if (stage !== "running") return stage;
    return checks.every(({ ok }) => ok) ? "ready" : "not ready";
  }
}
