import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";

const NO_SPACE = ["ENOSPC", "EDQUOT", "EFBIG"];
const NOT_PERMITTED = ["EACCES", "EPERM", "EROFS"];
// What a disk, a mount or a network file system says when it is away or broken; trying again later may help.
const AWAY = [
  "EIO",
  "ESTALE",
  "ENODEV",
  "ENXIO",
  "ENOTCONN",
  "EBUSY",
  "EAGAIN",
  "EMFILE",
  "ENFILE",
];
const AWAY_TOO = ["ENOENT", "ENOTDIR", "EHOSTDOWN", "ETIMEDOUT", "ESHUTDOWN"];

/**
 * Says what an error of the operating system means for an import. Anything else is returned as it is.
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
  if (AWAY.includes(code) || AWAY_TOO.includes(code))
    return failure(unavailable, "it does not work");
  return error;
}
