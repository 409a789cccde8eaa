import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";

/** A run that no worker has accepted or refused yet. */
export interface WaitingRun {
  readonly image_id: string;
  readonly workflow_id: string;
  readonly run_id: string;
}

/**
 * The failure of a start without an answer: the import was started, or may have been, and no worker
 * has accepted or refused it yet.
 */
export class UnansweredStart extends ImportError {
  /** Undefined if it is unknown whether the import was started. */
  readonly run: WaitingRun | undefined;

  private constructor(
    code: ImportFailureCode,
    message: string,
    run: WaitingRun | undefined,
    options: { readonly cause: unknown; readonly hint: string },
  ) {
    super(code, message, options);
    this.name = "UnansweredStart";
    this.run = run;
  }

  /** The import was started. */
  static started(run: WaitingRun, cause: unknown): UnansweredStart {
    const { image_id: id } = run;
    return new UnansweredStart(
      "NotAcceptedYet",
      `The import of image "${id}" is started, and no worker has accepted or refused it yet`,
      run,
      {
        cause,
        hint: `It continues once a worker runs (\`image-import worker\`): \`image-import watch ${id}\` follows it, \`image-import cancel ${id}\` cancels it.`,
      },
    );
  }

  /**
   * Temporal, or the API, became unreachable before the answer, or the command was ended.
   *
   * @param failure - the reason, whose code is that of this failure
   */
  static unknown(imageId: string, failure: ImportError): UnansweredStart {
    return new UnansweredStart(
      failure.code,
      `It is not known whether the import of image "${imageId}" was started: ${failure.message}`,
      undefined,
      {
        cause: failure,
        hint: `\`image-import status ${imageId}\` shows it once the service answers again; \`image-import start ${imageId}\` is refused if the import was started.`,
      },
    );
  }
}
