import { ImportError } from "../domain/import-failure.ts";
import type { ProgramEnding } from "./limited-program.ts";

/**
 * A failure that the machine or the image may have caused. The step is tried again a few times;
 * then the image counts as the cause.
 */
export class DoubtfulFailure extends ImportError {
  /** The failure of the import if all attempts fail in this way. */
  readonly lasting: ImportError;

  /** @param lasting - the failure of the import if each attempt fails so */
  constructor(lasting: ImportError) {
    super("TransformUnavailable", lasting.message, { cause: lasting.cause });
    this.lasting = lasting;
  }
}

// Signals that a user, the supervisor of a service or the end of a session sends. An image does not
// cause them: a program that its bytes confuse dies of SIGSEGV, SIGABRT and the like, and our
// limits send SIGXCPU and SIGXFSZ.
const SENT_FROM_OUTSIDE: readonly (string | null)[] = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGTERM",
  "SIGUSR1",
  "SIGUSR2",
];
// Errors of a mount, in the words of the C library. Errors of a lack of memory or files do not
// count: our own limits may cause them.
const MOUNT_FAILED = /Stale file handle|Transport endpoint is not connected/;

/**
 * Distinguishes the faults of this machine from those of the image: throws if a program was killed
 * from outside, or could not use a file.
 *
 * @param ending - the end of the program
 * @param failureFor - the permanent failure for a reason, such as `was killed by SIGKILL`
 * @throws ImportError `NoSpace`; retried: `TransformUnavailable`, as {@link DoubtfulFailure} if the
 *   image may have caused it
 */
export function requireUndisturbed(
  ending: ProgramEnding,
  failureFor: (reason: string) => ImportError,
): void {
  const { killedBy, stderr } = ending;
  const said = stderr.trim().replaceAll(/\s*\n\s*/g, "; ");
  if (/No space left on device|Disk quota exceeded/.test(said)) {
    throw new ImportError("NoSpace", `Cannot use the staging area: no space is left (${said})`);
  }
  const isSent = SENT_FROM_OUTSIDE.includes(killedBy);
  if (isSent || MOUNT_FAILED.test(said)) {
    const reason = isSent ? `was killed by ${String(killedBy)}` : `failed: ${said}`;
    throw new ImportError("TransformUnavailable", failureFor(reason).message);
  }
  if (killedBy === "SIGKILL") {
    const { code, message } = failureFor("was killed by SIGKILL");
    throw new DoubtfulFailure(
      new ImportError(code, message, {
        hint: "If the kernel killed the program because memory ran out, give this machine, or the container of the worker, more memory.",
      }),
    );
  }
  // qemu-img also prints this for a damaged image.
  if (said.includes("Input/output error")) throw new DoubtfulFailure(failureFor(`failed: ${said}`));
}
