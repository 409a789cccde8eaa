import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Runs `action` while no other process of this machine runs one under the same name; waits for its
 * turn. The lock is an abstract Unix socket: the kernel gives it to one process and takes it back
 * when that process dies, however it dies.
 *
 * @param name - what is guarded, a path for instance
 * @param action - called once, when the lock is held
 */
export async function exclusively(name, action) {
  const server = await takeTurn(socketName(name));
  try {
    return await action();
  } finally {
    server.close();
  }
}

function socketName(name) {
  // A socket's name may have 107 bytes, a path may have more.
  return `\0image-import-${createHash("sha256").update(name).digest("hex")}`;
}

async function takeTurn(path) {
  for (;;) {
    const server = createServer((visitor) => visitor.destroy());
    try {
      server.listen({ path });
      await once(server, "listening");
      return server;
    } catch (error) {
      if (error.code !== "EADDRINUSE") throw error;
      await sleep(100);
    }
  }
}
