/** True if this is a system error with one of these codes, such as `ENOENT`. */
export function hasErrorCode(error: unknown, ...codes: readonly string[]): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "string" &&
    codes.includes(error.code)
  );
}

const MACHINE_CODES = [
  "EAGAIN",
  "EBUSY",
  "EHOSTDOWN",
  "EINTR",
  "EIO",
  "EMFILE",
  "ENFILE",
  "ENODEV",
  "ENOMEM",
  "ENOTCONN",
  "ENXIO",
  "EREMOTEIO",
  "ESTALE",
  "ETIMEDOUT",
];

/**
 * True for an error of the system that means a broken or exhausted machine, in any kind of work.
 */
export function isMachineError(error: unknown): error is Error {
  return hasErrorCode(error, ...MACHINE_CODES);
}
