import { withoutProxies } from "./proxy-environment.ts";

/**
 * The environment of this process without the variables that begin with one of the prefixes. A
 * variable that a user set for another server, `PGPORT` or `TEMPORAL_API_KEY` for instance, must
 * not change a program of a stack.
 */
export function environmentWithout(...prefixes: readonly string[]): NodeJS.ProcessEnv {
  const isKept = (name: string): boolean => !prefixes.some((prefix) => name.startsWith(prefix));
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => isKept(name)));
}

/**
 * {@link environmentWithout}, and without proxies: for Postgres and the Temporal server, which
 * listen on this machine only.
 */
export function serverEnvironment(prefix: string): NodeJS.ProcessEnv {
  return withoutProxies(environmentWithout(prefix));
}
