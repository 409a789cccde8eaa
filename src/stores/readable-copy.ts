import type { Stores } from "./open-stores.ts";
import type { OpenCopy } from "./store.ts";

/** A copy as the catalogue records it. */
export interface RecordedCopy {
  readonly store: string;
  readonly key: string;
  readonly sizeBytes: number;
  /**
   * The difference from the image when the copy was last read. Null if there was none, or if it was
   * never read.
   */
  readonly damage: string | null;
}

/** The copy, open for reading; or the reason for which it is not the image. */
export type CopyLook =
  | { readonly copy: OpenCopy; readonly damage?: undefined }
  | { readonly copy?: undefined; readonly damage: string };

/** Damage of a copy whose store has nothing under its key. */
export const MISSING = "it is not in its store";

/**
 * Copies of one image in the order in which to read them: the default store before others, as
 * Glance does, and copies that are known to be damaged last.
 *
 * @param attempt - from 1. Each attempt begins with another of the good copies, because a copy with
 *   wrong bytes is noticed only at its end. Default: 1
 */
export function inReadingOrder<Copy extends RecordedCopy>(
  copies: readonly Copy[],
  defaultStore: string,
  attempt = 1,
): Copy[] {
  const isDefault = ({ store }: RecordedCopy): boolean => store === defaultStore;
  const inOrder = [...copies.filter(isDefault), ...copies.filter((each) => !isDefault(each))];
  const good = inOrder.filter(({ damage }) => damage === null);
  const first = (attempt - 1) % Math.max(1, good.length);
  return [
    ...good.slice(first),
    ...good.slice(0, first),
    ...inOrder.filter(({ damage }) => damage !== null),
  ];
}

/**
 * Opens a copy, if it is there and has its size. The caller closes it.
 *
 * @throws ImportError `StoreUnavailable`, `UnknownStore`
 */
export async function lookAtCopy(
  stores: Stores,
  { store: name, key, sizeBytes }: RecordedCopy,
  signal?: AbortSignal,
): Promise<CopyLook> {
  const store = stores.get(name);
  const found = await store.find(key, signal);
  if (found === undefined) return { damage: MISSING };
  if (found.sizeBytes !== sizeBytes) return { damage: wrongSize(found.sizeBytes, sizeBytes) };
  const copy = await store.open(key, signal);
  if (copy.sizeBytes === sizeBytes) return { copy };
  await copy.close();
  return { damage: wrongSize(copy.sizeBytes, sizeBytes) };
}

function wrongSize(sizeBytes: number, expectedBytes: number): string {
  return `it has ${String(sizeBytes)} bytes, not ${String(expectedBytes)}`;
}
