import { CancellationScope } from "@temporalio/workflow";

/**
 * Runs steps side by side. The first failure cancels the others, and is thrown once all have
 * stopped: an undo must not run beside a step that still writes.
 */
export async function sideBySide<T extends readonly unknown[]>(
  steps: readonly [...{ [K in keyof T]: () => Promise<T[K]> }],
): Promise<T> {
  const together = new CancellationScope();
  let first: { readonly error: unknown } | undefined;
  const stopOthers = (error: unknown): never => {
    first ??= { error };
    together.cancel();
    throw error;
  };
  return together.run(async () => {
    const running = steps.map((step: () => Promise<unknown>) => step().catch(stopOthers));
    await Promise.allSettled(running);
    if (first !== undefined) throw first.error;
    const results = await Promise.all(running);
    return results as unknown as T;
  });
}
