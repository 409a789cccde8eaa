import { hostname } from "node:os";
import { configDigest } from "../config/config-digest.ts";

/** What the name of a worker in Temporal says of it. */
export interface WorkerIdentity {
  /** `<process id>@<host>`, as the SDK names a worker by default. */
  readonly process: string;
  /** Digest of the configuration that it runs with. */
  readonly config: string;
  /** When it read the configuration, as ISO 8601. */
  readonly since: string;
}

/**
 * The name of this worker in Temporal: the Web UI, histories and `doctor` read it there, of each
 * worker that polls.
 */
export function identityOf(configPath: string, now = new Date()): string {
  const digest = configDigest(configPath) ?? "unknown";
  return `${String(process.pid)}@${hostname()} config ${digest} since ${now.toISOString()}`;
}

/** Reads a name of {@link identityOf}; undefined for that of another program or version. */
export function parseIdentity(identity: string): WorkerIdentity | undefined {
  const [, worker, config, since] = /^(\S+) config (\S+) since (\S+)$/.exec(identity) ?? [];
  if (worker === undefined || config === undefined || since === undefined) return undefined;
  return { process: worker, config, since };
}

/** Whether this is a process of this host that has ended: the server remembers it for minutes. */
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
