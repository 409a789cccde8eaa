import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { StackError } from "./stack-error.ts";

/** A way to start a program that refuses to run as root, and the owner of its files. */
export interface UnprivilegedLaunch {
  /** The command before the program and its arguments. */
  readonly prefix: readonly string[];
  /** The owner of its files, as the rest of the system sees it. */
  readonly uid: number;
  /** Group of its files. */
  readonly gid: number;
}

/**
 * Finds a way to run `program` without being root, with full access to `directory`. An ordinary
 * user runs it as it is. For root there are two ways, and each is tried before it is chosen:
 *
 * - A user namespace in which root has another number. No file changes its owner, so it works below
 *   directories that only root may enter. It needs a kernel (and a container) that permits a
 *   namespace.
 * - Another user, who keeps the right to enter and write everywhere (two capabilities). It works
 *   without namespaces and below directories of other users. It needs the right to pass
 *   capabilities on.
 *
 * @throws StackError if neither way works
 */
export function findUnprivilegedLaunch(program: string, directory: string): UnprivilegedLaunch {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  if (uid !== 0) return { prefix: [], uid, gid };

  const found = [inUserNamespace(), asOtherUser()].find((launch) =>
    works(launch, program, directory),
  );
  if (found) return found;
  throw new StackError(
    `Cannot run "${program}" with data in "${directory}": Postgres refuses to run as root, and neither a user namespace (unshare --user) nor a change of user (setpriv) is allowed here. Run this as an ordinary user, or set DATABASE_URL and TEMPORAL_ADDRESS and start only a worker`,
  );
}

function inUserNamespace(): UnprivilegedLaunch {
  const { uid, gid } = ordinaryUser();
  const prefix = ["unshare", "--user", `--map-user=${uid}`, `--map-group=${gid}`, "--"];
  return { prefix, uid: 0, gid: 0 };
}

function asOtherUser(): UnprivilegedLaunch {
  const { uid, gid } = ordinaryUser();
  const capabilities = "+dac_override,+dac_read_search";
  const prefix = [
    "setpriv",
    `--reuid=${uid}`,
    `--regid=${gid}`,
    "--clear-groups",
    `--inh-caps=${capabilities}`,
    `--ambient-caps=${capabilities}`,
    // Without this, access(2) ignores capabilities. Postgres looks for its own files with that
    // call.
    "--securebits=+no_setuid_fixup",
    "--",
  ];
  return { prefix, uid, gid };
}

/** A user with a name: initdb refuses a user id that has none. */
function ordinaryUser(): { readonly uid: number; readonly gid: number } {
  const users = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"));
  const user =
    users.find(([name]) => name === "postgres") ??
    // eslint-disable-next-line plain-english/words -- the name of a user
    users.find(([name]) => name === "nobody");
  // Linux reserves the id 65534 for that user.
  return { uid: Number(user?.[2] ?? 65534), gid: Number(user?.[3] ?? 65534) };
}

function works(launch: UnprivilegedLaunch, program: string, directory: string): boolean {
  const [command, ...args] = [...launch.prefix, "sh", "-c"];
  const script = 'test -w "$0" && test -x "$0" && exec "$1" --version';
  const { status } = spawnSync(command, [...args, script, directory, program], {
    stdio: "ignore",
    timeout: 10_000,
  });
  return status === 0;
}
