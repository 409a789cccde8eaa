import { createHash } from "node:crypto";
import { once } from "node:events";
import { statSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { text } from "node:stream/consumers";
import { StackBusyError } from "./stack-error.ts";

/** Held by the one process that may use a data directory. */
export interface DataDirectoryLock {
  /** Lets the next process have it. */
  release(): Promise<void>;
}

/**
 * Takes the exclusive lock of a data directory. The lock is an abstract Unix socket named after the
 * directory's inode: the kernel gives the name to one process, takes it back when that process
 * dies, however it dies, and leaves no file. Whoever connects to it is told the holder's process
 * id.
 *
 * @throws StackBusyError naming the holder, when another process has it
 */
export async function lockDataDirectory(dataDir: string): Promise<DataDirectoryLock> {
  const path = socketName("stack", dataDir);
  const lock = await tryToLock(path);
  if (lock !== undefined) return lock;
  throw new StackBusyError(
    `Cannot use the data directory "${dataDir}": a stack already runs on it (process ${await askHolder(path)}). Use that stack, stop it (Ctrl-C in its terminal), or choose another directory with --data-dir`,
  );
}

/**
 * Takes the turn of a demo on a data directory. The first of two at once has started the stack and
 * stops it at its end, so that the second must not use it.
 *
 * @returns undefined while another demo has it
 */
export async function tryToTakeDemoTurn(dataDir: string): Promise<DataDirectoryLock | undefined> {
  return tryToLock(socketName("demo", dataDir));
}

async function tryToLock(path: string): Promise<DataDirectoryLock | undefined> {
  const server = createServer((visitor) => {
    visitor.on("error", () => undefined);
    visitor.end(String(process.pid));
  });
  try {
    await listen(server, path);
  } catch (cause) {
    if (isAddressInUse(cause)) return undefined;
    throw cause;
  }
  // It must not keep a process alive that has nothing else to do.
  server.unref();
  return { release: async () => close(server) };
}

function socketName(purpose: "stack" | "demo", dataDir: string): string {
  // By inode, not by path: the same directory may be reached by several.
  const { dev, ino } = statSync(dataDir);
  const digest = createHash("sha256").update(`${dev}:${ino}`).digest("hex");
  return `\0image-import-${purpose}-${digest.slice(0, 32)}`;
}

async function listen(server: Server, path: string): Promise<void> {
  server.listen({ path });
  await once(server, "listening");
}

async function askHolder(path: string): Promise<string> {
  try {
    const socket = connect({ path });
    socket.setTimeout(2_000, () => socket.destroy());
    return (await text(socket)) || "unknown";
  } catch {
    return "unknown";
  }
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  await new Promise((resolve) => server.close(resolve));
}

function isAddressInUse(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EADDRINUSE";
}
