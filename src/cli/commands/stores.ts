import type { Command } from "commander";
import type { StoreView } from "../../client/store-view.ts";
import { formatBytes } from "../../domain/byte-size.ts";
import { ImportError } from "../../domain/import-failure.ts";
import { UsageError } from "../failure.ts";
import { fields, table } from "../render.ts";
import { inSession, type Session } from "../session.ts";

interface StoresOptions {
  readonly check?: boolean;
  readonly adopt?: string;
}

/** `stores`: the stores of this host, each of them checked. */
export function addStoresCommand(program: Command): void {
  program
    .command("stores")
    .description("list the stores of this host")
    .option("--check", "write a small file into each, read it back and remove it")
    .option("--adopt <name>", "mark the current place of a store as the store's")
    .action(inSession(stores));
}

async function stores(session: Session, { check = false, adopt }: StoresOptions): Promise<void> {
  if (adopt !== undefined) {
    if (check) throw new UsageError("name either --check or --adopt", "Leave one of them out.");
    await adoptStore(session, adopt);
    return;
  }
  const views = await (await session.hostService()).admin.listStores(check ? "trial" : "writable");
  session.answer(views, () =>
    table(
      ["NAME", "TYPE", "DEFAULT", "LOCATION", "FREE", "STATE"],
      views.map((store) => [
        store.name,
        store.type,
        store.default ? "yes" : "",
        store.location,
        store.free_bytes === null ? "-" : formatBytes(store.free_bytes),
        stateOf(store),
      ]),
    ),
  );
  if (check) requireWorking(views);
}

async function adoptStore(session: Session, name: string): Promise<void> {
  const adopted = await (await session.hostClient()).admin.adoptStore(name);
  session.answer(adopted, () =>
    fields([
      ["store", adopted.name],
      ["location", adopted.location],
      ["mark", `${adopted.mark}${adopted.is_new ? " (new)" : ""}`],
      ["copies", `${String(adopted.found)} of the ${String(adopted.looked_for)} looked for`],
    ]),
  );
}

function stateOf({ disabled, read_only: isReadOnly, works, reason, mark }: StoreView): string {
  if (disabled) return "disabled";
  const working = mark === "none yet" ? "works, not marked yet" : "works";
  const state = works === true ? working : (reason ?? "does not work");
  return isReadOnly ? `read-only, ${state}` : state;
}

function requireWorking(views: readonly StoreView[]): void {
  const failures = views
    .filter(({ works }) => works === false)
    .map((store) => `${store.name}: ${store.reason ?? "does not work"}`);
  if (failures.length === 0) return;
  throw new ImportError("StoreUnavailable", `Not all stores work: ${failures.join("; ")}`, {
    hint: "Check path or bucket, permissions and credentials of these stores.",
  });
}
