/** The sender of a request, as one of the three ways of identification found it. */
export interface Caller {
  /** Null: without identification. */
  readonly user: string | null;
  /** The project that owns what this caller creates; null: none. */
  readonly project: string | null;
  /** In lower case, with those that a role implies. */
  readonly roles: ReadonlySet<string>;
}

// Keystone's implied roles. Keystone names them all in a token; a file of tokens need not.
const IMPLIED: Readonly<Record<string, readonly string[]>> = {
  admin: ["manager", "member", "reader"],
  manager: ["member", "reader"],
  member: ["reader"],
};

/** A caller with these roles and those that they imply. */
export function callerOf(
  user: string | null,
  project: string | null,
  roles: readonly string[],
): Caller {
  const named = roles.map((role) => role.toLowerCase());
  return {
    user,
    project,
    roles: new Set(named.flatMap((role) => [role, ...(IMPLIED[role] ?? [])])),
  };
}

/** True if the caller may do everything. */
export function isAdmin({ roles }: Caller): boolean {
  return roles.has("admin");
}
