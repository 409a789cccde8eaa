import { log } from "@temporalio/activity";
import { activate, type Transformations } from "../db/outcome-records.ts";
import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import type { Preparation } from "../domain/image-history.ts";
import type { Dependencies } from "./dependencies.ts";

/** The image to activate. */
export interface ActivateOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly task_id: string;
  /**
   * Disk format that the image gets: that of its source, that of the last product, or the detected
   * one if none was declared. Default, and in histories of 0.1.0: as it was declared.
   */
  readonly disk_format?: DiskFormat;
  /** Container format that the image takes over from its source. Default: as it was declared. */
  readonly container_format?: ContainerFormat;
  /** Properties that its source and transforms give the image. Default: none. */
  readonly properties?: Readonly<Record<string, string>>;
  /** For the history of the image. Absent in histories of 0.1.0, and in runs of `copy-image`. */
  readonly preparation?: Preparation | undefined;
}

/** The activation of an image. It has no undo: after it the import only goes forward. */
export function activateImageActivities({ database, taskTimeToLiveMs, version }: Dependencies) {
  return {
    /**
     * `saving → active` in one transaction: locations live, task → `success` with its result, claim
     * released. A task that does not exist any more, or has ended, is not changed, and the image
     * still becomes active. The format and the properties of transforms are set in the same
     * transaction. Safe to repeat.
     *
     * @throws ImportError `ImportLost` when the image was deleted or taken meanwhile
     */
    async activateImage(order: ActivateOrder): Promise<void> {
      const { taskEnded } = await database.transaction((db) =>
        activate(
          db,
          { imageId: order.image_id, epoch: order.epoch, taskId: order.task_id },
          { ...transformedBy(order), version },
          taskTimeToLiveMs,
        ),
      );
      if (!taskEnded) reportOtherEnd(order);
    },
  };
}

/** The changes of the image in an order. */
export function transformedBy(order: ActivateOrder): Transformations {
  const { disk_format: diskFormat, container_format: containerFormat } = order;
  const { properties, preparation } = order;
  return { diskFormat, containerFormat, properties, preparation };
}

/** Logs that a task did not end with its import. */
export function reportOtherEnd({ image_id, task_id }: ActivateOrder): void {
  log.warn("The task was gone or had already ended; the image is active nevertheless", {
    imageId: image_id,
    taskId: task_id,
  });
}
