import { withoutProxies } from "../config/proxy-environment.ts";

/**
 * The environment without the variables that begin with `prefix`. The user's settings for another
 * server, such as `PGPORT` or `TEMPORAL_API_KEY`, must not apply to the servers of the stack.
 */
export function environmentWithout(prefix: string): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith(prefix)),
  );
}

/**
 * {@link environmentWithout}, and without proxies: for Postgres and Temporal's server, which are
 * reached on this machine only.
 */
export function serverEnvironment(prefix: string): NodeJS.ProcessEnv {
  return withoutProxies(environmentWithout(prefix));
}
