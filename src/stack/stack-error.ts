/**
 * Why a stack cannot be started, in words for the person at the terminal: what was wanted, what stands in the way,
 * and the way out.
 */
export class StackError extends Error {
  override readonly name: string = "StackError";
}

/** The data directory is in use by a stack that runs. */
export class StackBusyError extends StackError {
  override readonly name = "StackBusyError";
}
