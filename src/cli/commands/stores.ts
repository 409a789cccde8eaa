import type { Command } from "commander";
import type { StoreView } from "../../client/image-import-client.ts";
import { formatBytes } from "../../domain/byte-size.ts";
import { ImportError } from "../../domain/import-failure.ts";
import { table } from "../render.ts";
import { inSession, type Session } from "../session.ts";

interface StoresOptions {
  readonly check?: boolean;
}

/** `stores`: what is configured on this host, each looked at or tried. */
export function addStoresCommand(program: Command): void {
  program
    .command("stores")
    .description("list the stores of this host")
    .option("--check", "write something small into each, read it back, remove it")
    .action(inSession(stores));
}

async function stores(session: Session, { check = false }: StoresOptions): Promise<void> {
  const views = await (await session.hostClient()).listStores(check ? "trial" : "writable");
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

function stateOf({ disabled, read_only: isReadOnly, works, reason }: StoreView): string {
  if (disabled) return "disabled";
  const state = works === true ? "works" : (reason ?? "does not work");
  return isReadOnly ? `read-only, ${state}` : state;
}

function requireWorking(views: readonly StoreView[]): void {
  const failures = views
    .filter(({ works }) => works === false)
    .map((store) => `${store.name}: ${store.reason ?? "does not work"}`);
  if (failures.length === 0) return;
  throw new ImportError("StoreUnavailable", `Not all stores work: ${failures.join("; ")}`, {
    hint: "Check path or bucket, rights and credentials of the stores named.",
  });
}
