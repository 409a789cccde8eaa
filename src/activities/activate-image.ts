import { log } from "@temporalio/activity";
import { activate } from "../db/outcome-records.ts";
import type { DiskFormat } from "../domain/disk-format.ts";
import type { Dependencies } from "./dependencies.ts";

/** What to activate. */
export interface ActivateOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly task_id: string;
  /** What transforms made of it; not told in histories of 0.1.0. Default: as it was declared. */
  readonly disk_format?: DiskFormat;
  /** What transforms say of it; not told in histories of 0.1.0. Default: nothing. */
  readonly properties?: Readonly<Record<string, string>>;
}

/** The point of no return. It has no undo: from here the import only goes forward. */
export function activateImageActivities({ database, taskTimeToLiveMs }: Dependencies) {
  return {
    /**
     * `saving → active` in one transaction: locations live, task → `success` with its result, claim
     * released. A task that is gone or has ended is left as it is; the image becomes active all the
     * same. The format and the properties that transforms gave are set with it. Safe to repeat.
     *
     * @throws ImportError `ImportLost` when the image was deleted or taken meanwhile
     */
    async activateImage(order: ActivateOrder): Promise<void> {
      const { taskEnded } = await database.transaction((db) =>
        activate(
          db,
          { imageId: order.image_id, epoch: order.epoch, taskId: order.task_id },
          { diskFormat: order.disk_format, properties: order.properties },
          taskTimeToLiveMs,
        ),
      );
      if (taskEnded) return;
      log.warn("The task was gone or had ended already; the image is active all the same", {
        imageId: order.image_id,
        taskId: order.task_id,
      });
    },
  };
}
