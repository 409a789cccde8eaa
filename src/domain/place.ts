/**
 * The place of the bytes or effects that a lease stands for, inside one import: the upload of a
 * person (epoch 0), the download, the n-th product, the copy in a store, or the outside effects of
 * a transform.
 */
export type Place =
  "upload" | "download" | `product/${number}` | `store/${string}` | `transform/${string}`;

/** The key of the lease of an upload, which no import owns. */
export function uploadOf(imageId: string) {
  return { imageId, epoch: 0, place: "upload" } as const;
}

/** The place of the copy in a store. */
export function storePlace(store: string): Place {
  return `store/${store}`;
}

/** The store of a copy; undefined for any other place. */
export function storeAt(place: Place): string | undefined {
  return nameAfter(place, "store/");
}

/** The place of a product. */
export function productPlace(product: number): Place {
  return `product/${product}`;
}

/** The place of the effects of a transform. */
export function transformPlace(transform: string): Place {
  return `transform/${transform}`;
}

/** The transform of such effects; undefined for any other place. */
export function transformAt(place: Place): string | undefined {
  return nameAfter(place, "transform/");
}

/** True if the bytes lie in the staging area. */
export function isInStaging(place: Place): boolean {
  return place === "upload" || place === "download" || place.startsWith("product/");
}

function nameAfter(place: Place, prefix: string): string | undefined {
  return place.startsWith(prefix) ? place.slice(prefix.length) : undefined;
}

/** The thing that a lease stands for, as "the copy of image … in store …". */
export function describeLease(lease: { readonly imageId: string; readonly place: Place }): string {
  const { imageId, place } = lease;
  const store = storeAt(place);
  if (store !== undefined) return `the copy of image "${imageId}" in store "${store}"`;
  const transform = transformAt(place);
  if (transform !== undefined)
    return `the effects of transform "${transform}" on image "${imageId}"`;
  return `the ${place.replace("/", " ")} of image "${imageId}"`;
}
