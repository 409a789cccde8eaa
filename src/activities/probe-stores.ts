import type { NodeDependencies } from "./dependencies.ts";
import { StoreCalls } from "./store-calls.ts";

/** Why each store does not work, by its name; null for one that does. */
export type ProbedStores = Readonly<Record<string, string | null>>;

// A store that works answers within milliseconds; a probe must not wait as long as the work that it
// spares.
const PROBE_LIMIT_MS = 5_000;

/** The look at the stores of a node before the reconciler works in them. */
export function probeStoresActivities({ stores }: NodeDependencies) {
  const calls = new StoreCalls({ limitMs: PROBE_LIMIT_MS, atOnce: 1 });
  return {
    /**
     * Looks, side by side, which stores of this worker work. That the answer comes shows that the
     * worker lives.
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
