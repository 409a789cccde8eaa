import type { Command } from "commander";
import { inSession, type Session } from "../session.ts";

/** `migrate`: database and Temporal namespace at this version. */
export function addMigrateCommand(program: Command): void {
  program
    .command("migrate")
    .description("bring the database up to date, and register the search attributes in Temporal")
    .action(inSession(migrate));
}

async function migrate(session: Session): Promise<void> {
  const { requiredDatabaseUrl } = session;
  const { migrateDatabase } = await import("../../db/migrate.ts");
  await migrateDatabase(requiredDatabaseUrl);
  session.progress.note("The database is up to date");
  const { registerSearchAttributes, withNamespace } =
    await import("../../worker/search-attributes.ts");
  await withNamespace(session.location.temporal, registerSearchAttributes);
  const { runTimeToLiveMs } = session.config ?? {};
  if (runTimeToLiveMs !== undefined) {
    const { setRunRetention } = await import("../../worker/run-retention.ts");
    await withNamespace(session.location.temporal, (connection, namespace) =>
      setRunRetention(connection, namespace, runTimeToLiveMs),
    );
    session.progress.note("The retention of the namespace is set");
  }
  const answer = { database: "up to date", search_attributes: "registered" };
  session.answer(answer, () => "The search attributes are registered\n");
}
