import { readFile } from "node:fs/promises";
import type { FileOwner } from "../domain/store-settings.ts";

// Bit 0 of the capabilities in proc(5): CAP_CHOWN.
const CHOWN_BIT = 1n;

/**
 * Whether this process may make its own files those of this owner. Nobody can be asked without
 * doing it, and the superuser of a container may lack the right, so that the rule of chown(2) is
 * applied.
 */
export async function mayGiveFilesTo({ uid, gid }: FileOwner): Promise<boolean> {
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  if (uid === process.geteuid?.() && groups.includes(gid)) return true;
  const status = await readFile("/proc/self/status", "utf8");
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
  return (BigInt(`0x${effective}`) & CHOWN_BIT) !== 0n;
}
