import { ImportError } from "../domain/import-failure.ts";

/** The run that waits for the verdict of a worker. */
export interface WaitingRun {
  readonly image_id: string;
  readonly workflow_id: string;
  readonly run_id: string;
}

/**
 * Reports that an import was started, or perhaps was, and that no worker has accepted or refused it
 * yet.
 */
export class UnansweredStart extends ImportError {
  /** Undefined when it is not known whether the import was started. */
  readonly run: WaitingRun | undefined;

  private constructor(
    code: "NotAcceptedYet" | "TemporalUnavailable",
    message: string,
    run: WaitingRun | undefined,
    options: { readonly cause: unknown; readonly hint: string },
  ) {
    super(code, message, options);
    this.name = "UnansweredStart";
    this.run = run;
  }

  /** It was started. */
  static started(run: WaitingRun, cause: unknown): UnansweredStart {
    const { image_id: id } = run;
    return new UnansweredStart(
      "NotAcceptedYet",
      `The import of image "${id}" is started, and no worker has accepted or refused it yet`,
      run,
      {
        cause,
        hint: `It goes on when a worker runs (\`image-import worker\`): \`image-import watch ${id}\` follows it, \`image-import cancel ${id}\` cancels it.`,
      },
    );
  }

  /** Temporal went away before it could be asked. */
  static unknown(imageId: string, failure: ImportError): UnansweredStart {
    return new UnansweredStart(
      "TemporalUnavailable",
      `It is not known whether the import of image "${imageId}" was started: ${failure.message}`,
      undefined,
      {
        cause: failure,
        hint: `\`image-import status ${imageId}\` shows it when Temporal answers again; \`image-import start ${imageId}\` is refused if it was.`,
      },
    );
  }
}
