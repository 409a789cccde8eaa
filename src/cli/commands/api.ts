import { randomBytes, createHash } from "node:crypto";
import type { Command } from "commander";
import type { ApiSettings } from "../../config/api-settings.ts";
import { logLevelOption, portOf } from "../arguments.ts";
import { collectChunksCheaply } from "../chunk-collection.ts";
import { inSession, type Session } from "../session.ts";

interface ApiCommandOptions {
  readonly host?: string;
  readonly port?: number;
  readonly logLevel?: string;
}

interface TokenOptions {
  readonly user: string;
  readonly project: string;
  readonly role?: readonly string[];
}

/** `api`: serves the HTTP API until a signal ends it; `token`: makes a token for it. */
export function addApiCommands(program: Command): void {
  program
    .command("api")
    .description("serve the HTTP API for clients of OpenStack Glance on this host")
    .option("--host <address>", "address to serve it on; default: `api.host` of the configuration")
    .option(
      "--port <port>",
      "port, 0 for any free one; default: `api.port` of the configuration",
      portOf,
    )
    .addOption(logLevelOption())
    .action(inSession(serve));
  program
    .command("token")
    .description("make a token for the HTTP API, and the lines for the file of `api.tokens_file`")
    .requiredOption("--user <user>", "user of the token, also for HTTP basic")
    .requiredOption("--project <project>", "the project that owns what it creates")
    .option("--role <role...>", "roles: admin, member, reader or service; default: member")
    .action(inSession(makeToken));
}

async function serve(session: Session, options: ApiCommandOptions): Promise<void> {
  collectChunksCheaply();
  const { openLog } = await import("../../config/json-log.ts");
  const { knownSecrets } = await import("../../config/known-secrets.ts");
  const { namedLogLevel } = await import("../../config/log-settings.ts");
  const { runApi } = await import("../../http/run-api.ts");
  const read = await session.requiredConfig();
  const config = { ...read, api: withAddress(read.api, options) };
  const databaseUrl = await session.requiredDatabaseUrl();
  const { temporal } = await session.location();
  const secrets = knownSecrets({ databaseUrl, keyFile: config.keyFile });
  const level = namedLogLevel(options.logLevel) ?? config.logging.level;
  const logger = openLog({ level, secrets });
  await runApi({
    ...{ config, databaseUrl, temporal, logger },
    onReady: (addresses) => {
      logger.info({ ...addresses, identity: config.api.identity.mode }, "The API is ready");
      // A supervisor with a channel waits for this.
      process.send?.({ ready: true, ...addresses });
    },
  });
  logger.info("The API has stopped");
}

/** The options win over the configuration. */
function withAddress(api: ApiSettings, options: ApiCommandOptions): ApiSettings {
  return { ...api, host: options.host ?? api.host, port: options.port ?? api.port };
}

async function makeToken(session: Session, options: TokenOptions): Promise<void> {
  const token = randomBytes(32).toString("base64url");
  const entry = {
    digest: `sha256:${createHash("sha256").update(token).digest("hex")}`,
    user: options.user,
    project: options.project,
    roles: [...(options.role ?? ["member"])],
  };
  session.answer({ token, entry }, () =>
    [
      `Token, shown only now: ${token}`,
      "Lines for the file of `api.tokens_file`, below `tokens:`",
      "",
      `  - digest: ${entry.digest}`,
      `    user: ${JSON.stringify(entry.user)}`,
      `    project: ${JSON.stringify(entry.project)}`,
      `    roles: [${entry.roles.join(", ")}]`,
      "",
    ].join("\n"),
  );
}
