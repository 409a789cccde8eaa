import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { whileSaying } from "./progress.mjs";
import { codeOf } from "./thrown-error.mjs";

/**
 * Runs `action` while no other process of this machine runs one under the same name; waits for its
 * turn. The lock is an abstract Unix socket, as in src/processes/name-lock.ts, which this cannot
 * import: it guards the build that makes that file a program.
 *
 * @template Result
 * @param {string} name - the guarded thing, a path for instance
 * @param {string} what - what the other process does, for the user who waits for it: "installs and
 *   builds this clone"
 * @param {() => Promise<Result>} action - called once, when the lock is held
 */
export async function exclusively(name, what, action) {
  const server = await whileSaying(`waiting for another process that ${what}`, () =>
    takeTurn(socketName(name)),
  );
  try {
    return await action();
  } finally {
    server.close();
  }
}

/** @param {string} name */
function socketName(name) {
  // A socket's name may have 107 bytes, a path may have more.
  return `\0image-import-${createHash("sha256").update(name).digest("hex")}`;
}

/** @param {string} path */
async function takeTurn(path) {
  for (;;) {
    const server = createServer((visitor) => visitor.destroy());
    try {
      server.listen({ path });
      await once(server, "listening");
      return server;
    } catch (error) {
      if (codeOf(error) !== "EADDRINUSE") throw error;
      await sleep(100);
    }
  }
}
