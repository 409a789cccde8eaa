/** The consequences of a kind of failure for retries and for users. */
interface FailureKind {
  /** True if a retry of the same step may succeed without a change by a person. */
  readonly retryable: boolean;
  /**
   * Exit code of the command line: 1 failed, 2 wrong use, 3 not found, 4 conflict, 5 no response
   * yet.
   */
  readonly exitCode: 1 | 2 | 3 | 4 | 5;
  /** The way out, in one sentence. */
  readonly hint: string;
}

function permanent(exitCode: FailureKind["exitCode"], hint: string): FailureKind {
  return { retryable: false, exitCode, hint };
}

function transient(hint: string): FailureKind {
  return { retryable: true, exitCode: 1, hint };
}

/**
 * All known failures by their stable code. The code is the `type` of Temporal's failure, the word
 * in a task's message, and the `code` of the command line. A failure outside of this table is a
 * bug, and is shown as an {@link UnlistedFailure}.
 */
export const IMPORT_FAILURES = {
  BadRequest: permanent(2, "Correct the request and send it again."),
  AccessDenied: permanent(
    2,
    "Name a token of the API with IMAGE_IMPORT_API_TOKEN, OS_TOKEN or `--api-token`, of a user who may do this.",
  ),
  BadConfiguration: permanent(2, "Correct the configuration file or the environment."),
  NotConfigured: permanent(2, "Start a stack with `image-import dev`, or set the named variable."),
  UnknownStore: permanent(2, "`image-import stores` lists the stores that are configured."),
  UnusableFile: permanent(2, "Name a regular file that this user may read."),
  FileNotFound: permanent(3, "Check the path."),
  ImageNotFound: permanent(3, "`image-import image list` lists the images."),
  TaskNotFound: permanent(3, "`image-import task list` lists the tasks."),
  CopyNotFound: permanent(3, "`image-import image show <image-id>` lists the stores that have it."),
  MemberNotFound: permanent(3, "`image-import image member list <image-id>` lists the members."),
  ImportNotFound: permanent(3, "`image-import start <image-id>` starts an import."),
  ImageExists: permanent(4, "Choose another id, or leave it out."),
  ImageBusy: permanent(
    4,
    "Wait for it (`image-import watch <image-id>`), or stop it (`image-import cancel <image-id>`).",
  ),
  StagingBusy: permanent(
    4,
    "Wait until its data is staged; if the process that stages it has died, stage it again after 20 s.",
  ),
  ImageConflict: permanent(4, "`image-import image show <image-id>` shows the state of the image."),
  ImageProtected: permanent(4, "`image-import image set <image-id> --unprotected` allows it."),
  NotAcceptedYet: permanent(
    5,
    "Run a worker (`image-import worker`): the import continues then; `image-import status <image-id>` shows it.",
  ),
  ImportEnded: permanent(4, "`image-import status <image-id>` shows how it ended."),
  IllegalTransition: permanent(
    4,
    "`image-import image show <image-id>` shows the state of the image.",
  ),
  BadTaskConfiguration: permanent(
    1,
    "Correct `node_staging_uri` of the worker, or the `uri` given.",
  ),
  StagedDataMissing: permanent(
    1,
    "Stage the data again: `image-import image stage <image-id> FILE`.",
  ),
  StagedDataRefused: permanent(1, "Stage a regular file below the staging root."),
  StagedDataChanged: permanent(
    1,
    "Stage the data again: `image-import image stage <image-id> FILE`.",
  ),
  ChecksumMismatch: permanent(
    1,
    "Compare the data with the given checksum and size, correct the wrong one, and import again.",
  ),
  FormatMismatch: permanent(
    1,
    "Declare the format of the data, or stage data of the declared format.",
  ),
  FormatNotAllowed: permanent(
    1,
    "Convert the image to a format that is allowed, or allow this one in `formats` of the configuration.",
  ),
  UnsafeImage: permanent(
    1,
    "`image-import inspect FILE` lists the checks that fail and the way out of each.",
  ),
  TransformFailed: permanent(
    1,
    "Correct the image, or the transform in `import.transforms`, and import it again.",
  ),
  DecompressionFailed: permanent(
    1,
    "Compress the image again, or decompress it yourself and import the result.",
  ),
  ConversionFailed: permanent(
    1,
    "Convert the image yourself with qemu-img, and import the result.",
  ),
  ProductTooLarge: permanent(1, "Raise the limit that the message names, or import less."),
  SourceForbidden: permanent(
    1,
    "Name an address that `sources.web` of the configuration allows, or have it allowed there.",
  ),
  SourceRefused: permanent(1, "Check the URL: the server's response cannot be imported."),
  SourceTooLarge: permanent(1, "Import a smaller image, or raise the limit."),
  NoSpace: permanent(1, "Free space, or choose another store."),
  QuotaExceeded: permanent(
    1,
    "`image-import usage` shows what the owner has; delete images, or raise the limit under `limits`.",
  ),
  ImageTooLarge: permanent(1, "Import a smaller image, or raise `limits.image_size_cap`."),
  PermissionDenied: permanent(1, "Give the worker's user permission to write there."),
  ImportLost: permanent(
    1,
    "The image was deleted, or another import has claimed it; `image-import image show <image-id>` shows its state.",
  ),
  ImportCancelled: permanent(1, "`image-import start <image-id>` starts it again."),
  ImportDeadlineExceeded: permanent(
    1,
    "Find the slow step in the message, or raise `import.deadline`.",
  ),
  ImportAbandoned: permanent(1, "`image-import start <image-id>` starts it again."),
  CompensationIncomplete: permanent(
    1,
    "Wait: the reconciler removes what the named undos left behind.",
  ),
  ReconcileIncomplete: permanent(
    1,
    "Wait: the next reconciliation tries again. `image-import doctor` shows what is unreachable.",
  ),
  DigestMismatch: permanent(
    1,
    "Run `image-import image verify <image-id>`; import the image again.",
  ),
  Interrupted: permanent(1, "Run the command again: it kept nothing."),
  SourceUnavailable: transient("Check the source; the step is retried automatically."),
  StoreUnavailable: transient("Check the store; the step is retried automatically."),
  StagingUnavailable: transient("Check the staging volume; the step is retried automatically."),
  TransformUnavailable: transient(
    "Check the programs of the transform; the step is retried automatically.",
  ),
  DatabaseUnavailable: transient("Check Postgres and DATABASE_URL; `image-import doctor` helps."),
  TemporalUnavailable: transient("Check the Temporal server; `image-import doctor` helps."),
  ApiUnavailable: transient(
    "Check the address of `--api` or IMAGE_IMPORT_API, and that `image-import api` runs there.",
  ),
  AttemptOvertaken: transient("Do nothing: another attempt of the same step continues."),
  ImageStillClaimed: transient("Wait: the import is being cancelled."),
  CopyMismatch: transient("Check the store's disks; the copy is written again automatically."),
} as const satisfies Record<string, FailureKind>;

/** The stable code of a failure. */
export type ImportFailureCode = keyof typeof IMPORT_FAILURES;

/** The parts of a failure beside its code and message. */
export interface FailureOptions {
  readonly cause?: unknown;
  readonly hint?: string;
  readonly step?: string;
  readonly store?: string;
}

/**
 * A failure of the closed table {@link IMPORT_FAILURES}. Its message names the value, the rule and
 * the place.
 */
export class ImportError extends Error {
  readonly code: ImportFailureCode;
  /** The way out: the table's, or a better one of the place that throws. */
  readonly hint: string;
  /** The step of the import that failed. */
  readonly step: string | undefined;
  /** The store that the step was about. */
  readonly store: string | undefined;
  /** The time to wait before the step is retried, in ms, if the server sent one. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ImportFailureCode,
    message: string,
    options: FailureOptions & { readonly retryAfterMs?: number | undefined } = {},
  ) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = "ImportError";
    this.code = code;
    this.hint = options.hint ?? IMPORT_FAILURES[code].hint;
    this.step = options.step;
    this.store = options.store;
    this.retryAfterMs = options.retryAfterMs;
  }

  /** True if the same step may succeed when it is retried. */
  get retryable(): boolean {
    return IMPORT_FAILURES[this.code].retryable;
  }
}

/**
 * A failure that {@link IMPORT_FAILURES} does not list: a bug, or a failure of a worker of another
 * version.
 */
export class UnlistedFailure extends Error {
  /** The name of the error that was thrown. */
  readonly code: string;
  readonly hint: string;
  readonly step: string | undefined;
  readonly store: string | undefined;

  constructor(code: string, message: string, options: FailureOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = "UnlistedFailure";
    this.code = code;
    this.hint =
      options.hint ??
      "This is a bug, or a failure of a worker of another version; the worker's log has the details.";
    this.step = options.step;
    this.store = options.store;
  }
}

/** True if this text is a code of {@link IMPORT_FAILURES}. */
export function isImportFailureCode(text: unknown): text is ImportFailureCode {
  return typeof text === "string" && Object.hasOwn(IMPORT_FAILURES, text);
}
