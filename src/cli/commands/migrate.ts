import type { Command } from "commander";
import { inSession, type Session } from "../session.ts";

/** `migrate`: brings database and Temporal namespace to this version. */
export function addMigrateCommand(program: Command): void {
  program
    .command("migrate")
    .description("bring the database up to date, and register the search attributes in Temporal")
    .action(inSession(migrate));
}

async function migrate(session: Session): Promise<void> {
  const { admin } = await session.hostClient();
  await admin.migrateDatabase();
  session.progress.note("The database is up to date");
  const isRetentionSet = await admin.prepareNamespace();
  if (isRetentionSet) session.progress.note("The retention of the namespace is set");
  const answer = { database: "up to date", search_attributes: "registered" };
  session.answer(answer, () => "The search attributes are registered\n");
}
