import { randomInt } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer, type ListenOptions, type Server } from "node:net";
import { z } from "zod";

// Above the well-known ports, below those that Linux gives to outgoing connections (32768 on): a
// port that is kept must not be taken by a browser's connection while the stack is down.
const FIRST_PORT = 20_000;
const LAST_PORT = 32_767;

const portsFile = z.object({
  postgres: z.number().int(),
  temporal: z.number().int(),
  web_ui: z.number().int(),
});

/** The ports of one stack, all on 127.0.0.1. */
export type StackPorts = Readonly<z.infer<typeof portsFile>>;

/**
 * The ports of the stack that keeps them in `path`: the same at every start, so that addresses stay
 * valid, unless another program has taken one meanwhile.
 */
export async function choosePorts(path: string): Promise<StackPorts> {
  const kept = readPorts(path);
  const ports = {
    postgres: await keepOrFind(kept?.postgres),
    temporal: await keepOrFind(kept?.temporal),
    web_ui: await keepOrFind(kept?.web_ui),
  };
  writeFileSync(`${path}.new`, `${JSON.stringify(ports, null, 2)}\n`);
  renameSync(`${path}.new`, path);
  return ports;
}

/**
 * Finds a port of 127.0.0.1 on which nobody listens. As long as this process lives, no other stack
 * finds the same one, though it may take seconds until the program that is to have it listens
 * there.
 */
export async function findFreePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if (!reserved.has(port) && (await reserve(port))) return port;
  }
}

async function keepOrFind(port: number | undefined): Promise<number> {
  return port !== undefined && (await reserve(port)) ? port : findFreePort();
}

/** The ports that this process has found, each with the socket whose name says so to others. */
const reserved = new Map<number, Server>();

async function reserve(port: number): Promise<boolean> {
  if (!reserved.has(port)) {
    // An abstract Unix socket: the kernel gives a name to one process, and takes it back when that
    // dies.
    const sign = await tryToListen({ path: `\0image-import-port-${port}` });
    if (sign === undefined) return false;
    // It must not keep a process alive that has nothing else to do.
    sign.unref();
    reserved.set(port, sign);
  }
  const trial = await tryToListen({ port, host: "127.0.0.1" });
  trial?.close();
  return trial !== undefined;
}

async function tryToListen(where: ListenOptions): Promise<Server | undefined> {
  const server = createServer();
  try {
    server.listen(where);
    await once(server, "listening");
    return server;
  } catch {
    return undefined;
  }
}

function readPorts(path: string): StackPorts | undefined {
  if (!existsSync(path)) return undefined;
  const content: unknown = JSON.parse(readFileSync(path, "utf8"));
  return portsFile.parse(content);
}
