import { once } from "node:events";
import { connect, createServer } from "node:net";
import { text } from "node:stream/consumers";
import { hasErrorCode } from "../bytes/system-error.ts";

/** A name that one process of this machine holds. */
export interface NameLock {
  /** Lets the next process take the name. */
  release(): Promise<void>;
}

/**
 * Takes a name that at most one process of this machine, or container, holds. The lock is an
 * abstract Unix socket: the kernel gives the name to one process, takes it back when that process
 * ends, however it ends, and leaves no file.
 *
 * @param name - at most 107 bytes
 * @returns undefined while another process, or this one, holds the name
 */
export async function tryToLockName(name: string): Promise<NameLock | undefined> {
  const server = createServer((visitor) => {
    visitor.on("error", () => undefined);
    visitor.end(String(process.pid));
  });
  try {
    server.listen({ path: socketPath(name) });
    await once(server, "listening");
  } catch (cause) {
    if (hasErrorCode(cause, "EADDRINUSE")) return undefined;
    throw cause;
  }
  // The lock must not keep a process alive that has nothing else to do.
  server.unref();
  return {
    release: async () => {
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The id of the process that holds a name, or undefined if none does, or it does not reply. */
export async function readNameHolder(name: string): Promise<number | undefined> {
  try {
    const socket = connect({ path: socketPath(name) });
    socket.setTimeout(2_000, () => socket.destroy());
    const pid = Number(await text(socket));
    return pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

function socketPath(name: string): string {
  return `\0${name}`;
}
