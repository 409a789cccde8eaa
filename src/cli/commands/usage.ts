import type { Command } from "commander";
import type { UsageView } from "../../client/usage-view.ts";
import { defaultOwner } from "../../config/environment.ts";
import { formatBytes } from "../../domain/byte-size.ts";
import { QUOTAS, type Quota } from "../../domain/quota.ts";
import { table } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `usage`: an owner's use of each quota. */
export function addUsageCommand(program: Command): void {
  program
    .command("usage")
    .description("show the usage and the limit of each quota of an owner")
    .option(
      "--owner <owner>",
      "owner to show; default: IMAGE_IMPORT_OWNER, else the images without an owner",
    )
    .action(inSession(usage));
}

async function usage(session: Session, { owner }: { readonly owner?: string }): Promise<void> {
  const client = await session.hostService();
  const view = await client.admin.showUsage(owner ?? defaultOwner() ?? null);
  session.answer(view, () => usageTable(view));
}

function usageTable(view: UsageView): string {
  return table(
    ["QUOTA", "LIMIT", "USAGE", "RESERVED"],
    QUOTAS.map((quota) => {
      const { limit, usage: used, reserved } = view.usage[quota];
      const shown = (amount: number): string => amountOf(quota, amount);
      return [quota, limit === null ? "-" : shown(limit), shown(used), shown(reserved)];
    }),
  );
}

function amountOf(quota: Quota, amount: number): string {
  return quota.startsWith("image_count") ? String(amount) : formatBytes(amount);
}
