import { Option, type Command } from "commander";
import { ImportError } from "../../domain/import-failure.ts";
import { durationOf } from "../arguments.ts";
import { leftoversText, reconciledText } from "../reconcile-text.ts";
import { inSession, type Session } from "../session.ts";
import { withWordOfWaiting } from "../waiting-for-a-worker.ts";

interface ReconcileOptions {
  readonly dryRun?: boolean;
  /** In ms. */
  readonly timeout?: number;
}

/** `reconcile`: runs the reconciler once. */
export function addReconcileCommand(program: Command): void {
  program
    .command("reconcile")
    .description("undo now what imports without a run left behind, as the workers do regularly")
    .option("--dry-run", "change nothing, and list what would be undone or removed")
    .addOption(
      new Option("--timeout <duration>", "how long to wait for the end; default: 10m").argParser(
        durationOf,
      ),
    )
    .action(inSession(reconcile));
}

async function reconcile(session: Session, options: ReconcileOptions): Promise<void> {
  const { admin } = await session.client();
  const { dryRun = false, timeout } = options;
  if (dryRun) {
    const found = await withWordOfWaiting(
      session,
      () => admin.findLeftovers(timeout),
      "find what is left",
    );
    session.answer(found, () => leftoversText(found));
    requireComplete("look at everything", found.failures);
    return;
  }
  const reconciled = await withWordOfWaiting(
    session,
    () => admin.reconcile(timeout),
    "finish the reconciliation",
  );
  session.answer(reconciled, () => reconciledText(reconciled));
  requireComplete("reconcile everything", reconciled.failures);
}

function requireComplete(what: string, failures: readonly string[]): void {
  if (failures.length === 0) return;
  throw new ImportError("ReconcileIncomplete", `Cannot ${what}: ${failures.join("; ")}`);
}
