import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";

const NO_SPACE = ["ENOSPC", "EDQUOT", "EFBIG"];
const NOT_PERMITTED = ["EACCES", "EPERM", "EROFS"];
// What the system says of a wrong call, never of a disk: a bug of ours, which no repetition mends.
const MISUSES = [
  "E2BIG",
  "EBADF",
  "EEXIST",
  "EFAULT",
  "EINVAL",
  "EISDIR",
  "ELOOP",
  "EMLINK",
  "ENAMETOOLONG",
  "ENOSYS",
  "ENOTEMPTY",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EPIPE",
  "ESPIPE",
  "ESRCH",
  "EXDEV",
];

/**
 * Says what an error of the operating system means for an import. Anything else is returned as it
 * is.
 *
 * @param place - what was used, such as `store "local"`, for the message
 * @param unavailable - the code for a place that is away
 */
export function systemFailure(
  error: unknown,
  place: string,
  unavailable: ImportFailureCode,
): unknown {
  if (!(error instanceof Error) || error instanceof ImportError) return error;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const failure = (kind: ImportFailureCode, text: string): ImportError =>
    new ImportError(kind, `Cannot use ${place}: ${text} (${error.message})`, { cause: error });
  if (NO_SPACE.includes(code)) return failure("NoSpace", "no space is left");
  if (NOT_PERMITTED.includes(code)) return failure("PermissionDenied", "permission denied");
  // Whatever else the system reports, EIO, ESTALE or a code that only one file system knows: the
  // disk, the mount or the server behind it is broken or unreachable, and trying again later may
  // help.
  return isSystemCode(code) && !MISUSES.includes(code)
    ? failure(unavailable, "it does not work")
    : error;
}

/**
 * Whether a code is the system's: Node's own have an underscore, such as `ERR_INVALID_ARG_TYPE`.
 */
function isSystemCode(code: string): boolean {
  return /^(E[A-Z0-9]+|Unknown system error -?\d+)$/.test(code);
}
