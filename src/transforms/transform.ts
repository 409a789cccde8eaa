import type { FileHandle } from "node:fs/promises";

/** A change of an image's bytes, or of what is known of it, between its staging and its copies. */
export interface Transform {
  /** As the configuration and the import's status call it. */
  readonly name: string;
  /**
   * It never makes a product, and needs no room in staging. Default: false, room for the source is
   * required before `run`.
   */
  readonly leavesBytes?: boolean;
  /**
   * Makes the product. Returns undefined when there is nothing to do for this image. Must be safe
   * to run again from the start: an attempt whose process died is not resumed, its product is
   * removed.
   *
   * An error thrown fails the import, unless its property `retryable` is true: then the step is
   * tried again.
   */
  run(work: TransformWork): Promise<TransformResult | undefined>;
  /**
   * Undoes what `run` did outside of its product, which is removed without it; called when the
   * import fails, is cancelled or was lost. Idempotent: also called for a `run` that never began.
   * Default: nothing to undo.
   */
  undo?(image: TransformImage): Promise<void>;
  /** Asked when a worker starts and by `doctor`: why it can't work here. Default: it can. */
  check?(): Promise<string | undefined>;
}

/** The image that is imported. */
export interface TransformImage {
  readonly id: string;
  /**
   * Which import of the image this is. What is made outside is named by both: then an undo that
   * comes late does not meet what a later import made.
   */
  readonly epoch: number;
  /** The format of the bytes so far. */
  readonly diskFormat: string;
  readonly containerFormat: string;
  /** Of whoever asked for the import. */
  readonly roles: readonly string[];
}

/** What a transform is given. */
export interface TransformWork {
  readonly image: TransformImage;
  /** The bytes so far: open for reading, and their path. Never to be changed. */
  readonly source: FileHandle;
  readonly sourcePath: string;
  readonly sizeBytes: number;
  /**
   * Attempt-private path in staging (absolute, safe characters) where the product is to be written;
   * nothing is there yet.
   */
  readonly productPath: string;
  /** The product may not become larger than this. */
  readonly maxProductBytes: number;
  /** Aborted on cancel, on pause, and when nothing was reported for `import.idle_timeout`. */
  readonly signal: AbortSignal;
  /** So many bytes are done, of so many. Default of the total: the size of the source. */
  readonly report: (doneBytes: number, totalBytes?: number) => void;
}

/** What came of it. */
export interface TransformResult {
  /**
   * Whether the product was written (and fsynced); if not, only what is known of the image changes.
   */
  readonly hasProduct: boolean;
  /** The format of the product. Default: as before. */
  readonly diskFormat?: string;
  /** Properties to be set on the image when it becomes active. */
  readonly properties?: Readonly<Record<string, string>>;
}
