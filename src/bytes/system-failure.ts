import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";

const NO_SPACE = ["ENOSPC", "EDQUOT", "EFBIG"];
const NOT_PERMITTED = ["EACCES", "EPERM", "EROFS"];
// Errors of a wrong call, never of a disk: a bug in this program, which a retry does not correct.
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
 * Translates an error of the operating system into a failure of an import. Any other error is
 * returned as it is.
 *
 * @param place - the place that was used, such as `store "local"`, for the message
 * @param unavailable - the code for a place that is unreachable
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
  // Any other code (EIO, ESTALE, or one of a single file system) means that the disk, the mount or
  // the server behind it is broken or unreachable. A later retry may help.
  return isSystemCode(code) && !MISUSES.includes(code)
    ? failure(unavailable, "the system reports an error")
    : error;
}

/** True for a code of the system. Node's own have an underscore, as in `ERR_INVALID_ARG_TYPE`. */
function isSystemCode(code: string): boolean {
  return /^(E[A-Z0-9]+|Unknown system error -?\d+)$/.test(code);
}
