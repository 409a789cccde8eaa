/**
 * Why a stack cannot be started, in words for the person at the terminal: what was wanted, what
 * stands in the way, and the way out.
 */
export class StackError extends Error {
  override readonly name: string = "StackError";
  /** Whether the next try would fail in the same way, as with a configuration that is wrong. */
  readonly isPermanent: boolean;

  constructor(
    message: string,
    options: { readonly cause?: unknown; readonly isPermanent?: boolean } = {},
  ) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.isPermanent = options.isPermanent === true;
  }
}

/** The data directory is in use by a stack that runs. */
export class StackBusyError extends StackError {
  override readonly name = "StackBusyError";
}
