const NOBODY = 65_534;

/**
 * Runs some work as a user that permissions restrict: as an unprivileged one if this process is
 * root's, else as it is. What the work touches must not lie below a directory of mode 0700.
 * `access()` still answers for root: it asks for the real user.
 */
export async function asUnprivileged<T>(work: () => Promise<T>): Promise<T> {
  const { geteuid, getgroups, setegid, seteuid, setgroups } = process;
  if (geteuid?.() !== 0 || getgroups === undefined) return work();
  const groups = getgroups();
  setgroups?.([]);
  setegid?.(NOBODY);
  seteuid?.(NOBODY);
  try {
    return await work();
  } finally {
    seteuid?.(0);
    setegid?.(0);
    setgroups?.(groups);
  }
}
