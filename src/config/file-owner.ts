import { readFileSync, statSync } from "node:fs";

/** True if the system refused a call because of the rights of this process's user. */
export function isForbidden(error: unknown): boolean {
  return (
    error instanceof Error && "code" in error && ["EACCES", "EPERM"].includes(String(error.code))
  );
}

/**
 * The owner of a file or directory: `user "alice"`, or `user 1001` without a name; undefined when
 * it cannot be read.
 */
export function ownerOf(path: string): string | undefined {
  try {
    const { uid } = statSync(path);
    const name = nameOf(uid);
    return name === undefined ? `user ${uid}` : `user "${name}"`;
  } catch {
    return undefined;
  }
}

function nameOf(uid: number): string | undefined {
  const entries = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"));
  return entries.find(([, , id]) => id === String(uid))?.[0];
}
