/** The settings that every store has. */
export interface AnyStoreSettings {
  /** Bytes per second that all copies into this store share. Default: no limit. */
  readonly bandwidthLimit?: number | undefined;
  /** Its images are read; nothing in it is written or removed. Default: false. */
  readonly readOnly?: boolean;
  /** It is not used at all, as if it were unreachable. Default: false. */
  readonly disabled?: boolean;
}

/** The owner of a file, in the numbers of the host. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** The configuration of a directory. */
export interface FileStoreSettings extends AnyStoreSettings {
  readonly type: "file";
  /** Absolute path. */
  readonly path: string;
  readonly zeroCopy: boolean;
  /** Permissions of published files. Default: 0440. */
  readonly mode?: number;
  /** The owner of published files. Default: that of the worker. */
  readonly owner?: FileOwner | undefined;
}

/**
 * The configuration of a place in a bucket. Credentials come from the AWS SDK's standard chain
 * alone.
 */
export interface S3StoreSettings extends AnyStoreSettings {
  readonly type: "s3";
  readonly bucket: string;
  /** Empty, or ended by `/`. */
  readonly prefix: string;
  readonly region: string;
  /** `https://host:port`. Default: AWS. */
  readonly endpoint?: string | undefined;
  /**
   * Absolute path of a PEM file: authorities that are trusted in addition to the usual ones.
   * Default: none.
   */
  readonly caFile?: string | undefined;
  /** True if the bucket is in the path, not in the host's name. */
  readonly pathStyle: boolean;
  readonly checksums: "when_supported" | "when_required";
  /** Smallest size of a part. */
  readonly partSizeBytes: number;
  /** Parts of one copy that are sent at once. */
  readonly partsInFlight: number;
}

/** The configuration of one store: sizes in bytes, paths absolute. */
export type StoreSettings = FileStoreSettings | S3StoreSettings;
