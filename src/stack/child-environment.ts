import { withoutProxies } from "../config/proxy-environment.ts";

/**
 * Our environment without the variables that begin with `prefix`. What a person set for another
 * server, `PGPORT` or `TEMPORAL_API_KEY` for instance, must not change how ours behaves.
 */
export function environmentWithout(prefix: string): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith(prefix)),
  );
}

/**
 * {@link environmentWithout}, and without proxies: for Postgres and Temporal's server, which speak
 * to this machine only.
 */
export function serverEnvironment(prefix: string): NodeJS.ProcessEnv {
  return withoutProxies(environmentWithout(prefix));
}
