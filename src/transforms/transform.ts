import type { FileHandle } from "node:fs/promises";
import type { Report } from "../domain/report.ts";

/** A change of an image's bytes or properties, between its staging and its copies. */
export interface Transform {
  /** The name in the configuration and in the import's status. */
  readonly name: string;
  /**
   * True if it never makes a product, and needs no room in staging. Default: false; then staging
   * must have as much free room as the source takes, before `run` is called.
   */
  readonly leavesBytes?: boolean;
  /**
   * Makes the product, or returns undefined if there is nothing to do for this image. It must be
   * safe to run again from the start: an attempt whose process died is not resumed, and its product
   * is removed.
   *
   * An error that it throws fails the import, unless its property `retryable` is true, or it is an
   * error of a broken or exhausted machine, such as `EIO`, `ESTALE` or `EMFILE`: then the step is
   * tried again.
   */
  run(work: TransformWork): Promise<TransformResult | undefined>;
  /**
   * Undoes the effects of `run` outside of its product, which the worker removes. It is called when
   * the import fails, is cancelled or was lost, even if `run` never began, so that it must be
   * idempotent. Default: nothing to undo.
   */
  undo?(image: TransformImage): Promise<void>;
  /**
   * Returns the reason why it cannot work on this machine, or undefined. Called when a worker
   * starts, and by `doctor`. Default: it can.
   */
  check?(): Promise<string | undefined>;
}

/** The image that is imported. */
export interface TransformImage {
  readonly id: string;
  /**
   * The number of this import of the image. Name everything that you create elsewhere by id and
   * epoch: then a late undo does not remove the work of a later import.
   */
  readonly epoch: number;
  /** The format of the bytes so far. */
  readonly diskFormat: string;
  readonly containerFormat: string;
  /** The roles of the user who requested the import. */
  readonly roles: readonly string[];
}

/** The input of a transform. */
export interface TransformWork {
  readonly image: TransformImage;
  /** The bytes so far, open for reading. They must not be changed. */
  readonly source: FileHandle;
  /** The path of the same file. */
  readonly sourcePath: string;
  readonly sizeBytes: number;
  /**
   * The path for the product, private to this attempt: absolute, of safe characters, and in
   * staging. No file is there yet.
   */
  readonly productPath: string;
  /** The largest size of the product. */
  readonly maxProductBytes: number;
  /**
   * Aborted on cancel, on pause, when the product becomes larger than the quotas allow, and when
   * `report` was not called for `import.idle_timeout`.
   */
  readonly signal: AbortSignal;
  /** Reports the bytes that are done, of a total. Default of the total: the size of the source. */
  readonly report: Report;
}

/** The result of a run. */
export interface TransformResult {
  /**
   * True if the product was written and fsynced. False: only format or properties of the image
   * change.
   */
  readonly hasProduct: boolean;
  /** The format of the product. Default: that of the source. */
  readonly diskFormat?: string;
  /** Properties that are set on the image when it becomes active. */
  readonly properties?: Readonly<Record<string, string>>;
  /**
   * The program that did it, with its version, such as `qemu-img version 8.2.2`, for the history of
   * the image. At most 200 characters. Default: none.
   */
  readonly tool?: string | undefined;
}
