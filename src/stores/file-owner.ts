import { readFile } from "node:fs/promises";
import type { FileOwner } from "../domain/store-settings.ts";

// Bit 0 of the capabilities in proc(5): CAP_CHOWN.
const CHOWN_BIT = 1n;

/**
 * True if this process may give its files to this owner. The rule of chown(2) decides: a trial
 * would change a file, and the superuser of a container may lack the right.
 */
export async function mayGiveFilesTo({ uid, gid }: FileOwner): Promise<boolean> {
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  if (uid === process.geteuid?.() && groups.includes(gid)) return true;
  const status = await readFile("/proc/self/status", "utf8");
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
  return (BigInt(`0x${effective}`) & CHOWN_BIT) !== 0n;
}
