import { readFile } from "node:fs/promises";
import type { FileOwner } from "../domain/store-settings.ts";

// Bit 0 of the capabilities in proc(5): CAP_CHOWN.
const CHOWN_BIT = 1n;

/**
 * True if this process may give its files to this owner. It applies the rule of chown(2), because a
 * trial would change a file, and looks at the capability, because root in a container may lack it.
 */
export async function mayGiveFilesTo({ uid, gid }: FileOwner): Promise<boolean> {
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  if (uid === process.geteuid?.() && groups.includes(gid)) return true;
  const status = await readFile("/proc/self/status", "utf8");
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0";
  return (BigInt(`0x${effective}`) & CHOWN_BIT) !== 0n;
}
