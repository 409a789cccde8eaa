import type { Command } from "commander";
import { notConfigured } from "../../config/environment.ts";
import { inSession, type Session } from "../session.ts";
import { shellQuoted } from "../shell-quoted.ts";

/** `env`: the addresses of the service, for programs. */
export function addEnvCommand(program: Command): void {
  program
    .command("env")
    .description(
      'print the addresses of the service as variables of the shell: eval "$(image-import env)" sets them for programs',
    )
    .action(inSession(env));
}

async function env(session: Session): Promise<void> {
  const { temporal, databaseUrl, configPath, isTemporalNamed } = await session.location();
  if (!isTemporalNamed) throw notConfigured("the Temporal server", "TEMPORAL_ADDRESS");
  const variables = Object.entries({
    TEMPORAL_ADDRESS: temporal.connection.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
    DATABASE_URL: databaseUrl,
    IMAGE_IMPORT_CONFIG: configPath,
  }).filter((entry): entry is [string, string] => entry[1] !== undefined);
  session.answer(Object.fromEntries(variables), () =>
    variables.map(([name, value]) => `export ${name}=${shellQuoted(value)}\n`).join(""),
  );
}
