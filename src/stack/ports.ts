import { randomInt } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { z } from "zod";
import { StackError } from "./stack-error.ts";
import { tryToLockName, type NameLock } from "../processes/name-lock.ts";

// Above the well-known ports, below those that Linux gives to outgoing connections (from 32768 on):
// while the stack is stopped, a connection of a browser must not take its port.
const FIRST_PORT = 20_000;
const LAST_PORT = 32_767;

const portsFile = z.object({
  postgres: z.number().int(),
  temporal: z.number().int(),
  web_ui: z.number().int(),
  /** Absent in the file of a version without an API. */
  api: z.number().int().optional(),
});

type KeptPorts = Readonly<z.infer<typeof portsFile>>;

/** The ports of one stack, all on 127.0.0.1. */
export type StackPorts = { readonly [Name in keyof KeptPorts]-?: number };

/**
 * Chooses the ports of a stack, and records them in the file `path`. They are those of the last
 * start, so that addresses stay valid, except for a port that another program has taken meanwhile.
 *
 * @throws StackError when the file is damaged
 */
export async function choosePorts(path: string): Promise<StackPorts> {
  const kept = readPorts(path);
  const ports = {
    postgres: await keepOrFind(kept?.postgres),
    temporal: await keepOrFind(kept?.temporal),
    web_ui: await keepOrFind(kept?.web_ui),
    api: await keepOrFind(kept?.api),
  };
  writeFileSync(`${path}.new`, `${JSON.stringify(ports, null, 2)}\n`);
  renameSync(`${path}.new`, path);
  return ports;
}

/**
 * Finds a free port of 127.0.0.1. While this process runs, no other stack finds the same one, even
 * if the program for it takes seconds to listen there.
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

/** The ports that this process has found, each with the lock that keeps other stacks from it. */
const reserved = new Map<number, NameLock>();

async function reserve(port: number): Promise<boolean> {
  if (!reserved.has(port)) {
    const lock = await tryToLockName(`image-import-port-${port}`);
    if (lock === undefined) return false;
    reserved.set(port, lock);
  }
  return isFree(port);
}

async function isFree(port: number): Promise<boolean> {
  const trial = createServer();
  try {
    trial.listen({ port, host: "127.0.0.1" });
    await once(trial, "listening");
    return true;
  } catch {
    return false;
  } finally {
    trial.close();
  }
}

function readPorts(path: string): KeptPorts | undefined {
  if (!existsSync(path)) return undefined;
  const parsed = portsFile.safeParse(parseJson(readFileSync(path, "utf8"), path));
  if (parsed.success) return parsed.data;
  throw damaged(path, z.prettifyError(parsed.error));
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw damaged(path, error instanceof Error ? error.message : String(error));
  }
}

function damaged(path: string, reason: string): StackError {
  return new StackError(
    `Cannot read the ports in "${path}": ${reason}. Delete the file, and start again: the stack gets new ports`,
  );
}
