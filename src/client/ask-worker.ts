import { hostname } from "node:os";
import { z } from "zod";
import { isThisMachine } from "../config/proxy-environment.ts";
import type { WorkerIdentity } from "../temporal/worker-identity.ts";

const PATIENCE_MS = 2_000;

const readiness = z.object({
  status: z.string(),
  identity: z.string(),
  checks: z.record(
    z.string(),
    z.object({ ok: z.boolean(), since: z.string(), reason: z.string().nullable() }),
  ),
});

/** The answer of a worker's `/readyz`, or the lack of one. */
export type WorkerAnswer =
  | { readonly state: "ready" }
  /** Its servers and its volume that do not work, by name. */
  | { readonly state: "not ready"; readonly status: string; readonly failing: readonly Failing[] }
  /** It has ended, or takes no more work. */
  | { readonly state: "gone" }
  /** It may run. `isHere`: it runs on this host, so that a healthy worker would have answered. */
  | { readonly state: "silent"; readonly isHere: boolean };

/** A check of a worker that fails. */
export interface Failing {
  readonly check: string;
  readonly since: string;
  readonly reason: string;
}

/**
 * Asks a worker if it is ready.
 *
 * @param identity - the worker's complete name in Temporal: another program may have taken over its
 *   port
 */
export async function askWorker(
  identity: string,
  { process: name, healthUrl }: WorkerIdentity,
): Promise<WorkerAnswer> {
  const isHere = name.endsWith(`@${hostname()}`);
  if (healthUrl === undefined) return { state: "silent", isHere: false };
  try {
    // A loopback address leads to a program of this host.
    if (!isHere && isThisMachine(new URL(healthUrl).host)) return { state: "silent", isHere };
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const response = await fetch(`${healthUrl}/readyz`, { signal });
    const { data } = readiness.safeParse(await response.json());
    if (data === undefined && !isHere) return { state: "silent", isHere };
    return answerIn(data, identity);
  } catch (error) {
    // The name of another host may lead to a proxy or a firewall, which answers for it.
    const isKnown = isHere && (isRefused(error) || error instanceof SyntaxError);
    return isKnown ? { state: "gone" } : { state: "silent", isHere };
  }
}

function answerIn(document: z.infer<typeof readiness> | undefined, identity: string): WorkerAnswer {
  if (document?.identity !== identity) return { state: "gone" };
  const { status, checks } = document;
  if (status === "stopping") return { state: "gone" };
  if (status === "ready") return { state: "ready" };
  const failing = Object.entries(checks).flatMap(([check, { ok, since, reason }]) =>
    ok ? [] : [{ check, since, reason: reason ?? "" }],
  );
  return { state: "not ready", status, failing };
}

/** True if no program listens on the port. */
function isRefused(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { cause } = error;
  return cause instanceof Error && "code" in cause && cause.code === "ECONNREFUSED";
}
