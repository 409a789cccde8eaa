/**
 * A failure to start a stack. Its message is for the user at the terminal: the action, the reason,
 * and the way out.
 */
export class StackError extends Error {
  override readonly name: string = "StackError";
  /** True if the next attempt would fail in the same way, as with an invalid configuration. */
  readonly isPermanent: boolean;

  constructor(
    message: string,
    options: { readonly cause?: unknown; readonly isPermanent?: boolean } = {},
  ) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.isPermanent = options.isPermanent === true;
  }
}

/** The failure to start a stack on a data directory that a running stack uses. */
export class StackBusyError extends StackError {
  override readonly name = "StackBusyError";
}
