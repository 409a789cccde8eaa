import type { NodeDependencies } from "./dependencies.ts";
import { StoreCalls } from "./store-calls.ts";

/** The reason why each store does not work, by its name; null for a store that works. */
export type ProbedStores = Readonly<Record<string, string | null>>;

// A store that works responds within milliseconds. A probe must be shorter than the work that it
// avoids.
const PROBE_LIMIT_MS = 5_000;

/** The check of the stores of a node before the reconciler works in them. */
export function probeStoresActivities({ stores }: NodeDependencies) {
  const calls = new StoreCalls({ limitMs: PROBE_LIMIT_MS, atOnce: 1 });
  return {
    /**
     * Checks in parallel which stores of this worker work. A result also shows that the worker is
     * alive.
     */
    async probeStores(): Promise<ProbedStores> {
      const probed = stores.descriptions.map(async ({ name, isDisabled }) => {
        if (isDisabled) return [name, "it is disabled"] as const;
        try {
          const { works, reason } = await calls.run(name, () => stores.get(name).check());
          return [name, works ? null : (reason ?? "it does not work")] as const;
        } catch (error) {
          return [name, error instanceof Error ? error.message : String(error)] as const;
        }
      });
      return Object.fromEntries(await Promise.all(probed));
    },
  };
}
