import type { ImportPlan, NothingToCopy } from "../../src/activities/claim-import.ts";
import type { DigestOrder } from "../../src/activities/digest-staged.ts";
import type { FetchOrder } from "../../src/activities/fetch-image.ts";
import type { SaveOrder } from "../../src/activities/save-image.ts";
import type { StoredCopy, StoreOrder } from "../../src/activities/store-image.ts";
import type { TransformOrder } from "../../src/activities/transform-staged.ts";
import type { Digests } from "../../src/domain/digests.ts";

/** The order of a download. */
export function fetchOrder({ image_id, epoch, task_id }: ImportPlan, uri: string): FetchOrder {
  return { image_id, epoch, task_id, uri };
}

/** The order of the digests. */
export function digestOrder(plan: ImportPlan, sizeBytes: number): DigestOrder {
  return { image_id: plan.image_id, uri: plan.uri, task_id: plan.task_id, size: sizeBytes };
}

/** The order of a transform; of the upload by default. */
export function transformOrder(
  { image_id, uri, epoch, task_id, disk_format, container_format }: ImportPlan,
  transform: string,
  changes: Partial<TransformOrder> = {},
): TransformOrder {
  const format = { disk_format: disk_format ?? "raw", container_format };
  const order = { image_id, uri, epoch, task_id, ...format };
  return { ...order, product: 0, roles: [], transform, ...changes };
}

/** The order of a copy. */
export function storeOrder(plan: ImportPlan, sizeBytes: number, store = "fast"): StoreOrder {
  return {
    image_id: plan.image_id,
    uri: plan.uri,
    epoch: plan.epoch,
    task_id: plan.task_id,
    store,
    size: sizeBytes,
  };
}

/** The order to save an image with these copies. */
export function saveOrder(
  { image_id, epoch }: ImportPlan,
  digests: Digests,
  copies: readonly StoredCopy[],
): SaveOrder {
  return { image_id, epoch, digests, virtual_size: null, copies };
}

/** The plan of an import that has something to do. */
export function planOf(answer: ImportPlan | NothingToCopy): ImportPlan {
  if ("task_id" in answer) return answer;
  throw new Error(
    `Nothing to copy: image ${answer.image_id} is in ${answer.already_in.join(", ")}`,
  );
}
