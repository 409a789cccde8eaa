import { hostname } from "node:os";
import { configDigest } from "../config/config-digest.ts";
import { packageVersion } from "../config/package-version.ts";

// The names of the first workers of 0.1.0 end after the time.
const NAME = /^(\S+) config (\S+) since (\S+)(?: version (\S+) health (\S+))?$/;

/** The parts of a worker's name in Temporal. */
export interface WorkerIdentity {
  /** `<process id>@<host>`, as the SDK names a worker by default. */
  readonly process: string;
  /** Digest of its configuration. */
  readonly config: string;
  /** The time at which it read the configuration, in ISO 8601. */
  readonly since: string;
  /** Version of this software; undefined for one that does not report it. */
  readonly version?: string | undefined;
  /** URL of its `/livez` and `/readyz`, without a path; undefined for one that has none. */
  readonly healthUrl?: string | undefined;
}

/**
 * The name of this worker in Temporal. The Web UI, histories and `doctor` show it.
 */
export function identityOf(configPath: string, healthUrl: string, now = new Date()): string {
  const digest = configDigest(configPath) ?? "unknown";
  const worker = `${String(process.pid)}@${hostname()}`;
  return `${worker} config ${digest} since ${now.toISOString()} version ${packageVersion()} health ${healthUrl}`;
}

/** Parses a name of {@link identityOf}; undefined for a name of another program or version. */
export function parseIdentity(identity: string): WorkerIdentity | undefined {
  const [, worker, config, since, version, healthUrl] = NAME.exec(identity) ?? [];
  if (worker === undefined || config === undefined || since === undefined) return undefined;
  return { process: worker, config, since, version, healthUrl };
}

/** True for an ended process of this host, which the server still lists for some minutes. */
export function hasEnded({ process: name }: WorkerIdentity): boolean {
  const [pid = "", host] = name.split("@");
  if (host !== hostname()) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}
