/**
 * Runs work on each item, a few items at a time, and keeps the order of the items. A failure does
 * not stop the others.
 *
 * @param limit - the largest number of items at a time
 */
export async function settleEach<Item, Result>(
  items: readonly Item[],
  limit: number,
  work: (item: Item) => Promise<Result>,
): Promise<PromiseSettledResult<Result>[]> {
  const settled: PromiseSettledResult<Result>[] = [];
  const rest = items.entries();
  const workThrough = async (): Promise<void> => {
    for (const [index, item] of rest) {
      [settled[index]] = await Promise.allSettled([work(item)]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, workThrough));
  return settled;
}
