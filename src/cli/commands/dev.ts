import { join } from "node:path";
import type { Command } from "commander";
import { isDefaultDataDir } from "../../config/environment.ts";
import type { Stack } from "../../stack/stack.ts";
import { StackBusyError, StackError } from "../../stack/stack-error.ts";
import { json } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `dev`: runs everything on this machine until a signal ends it. */
export function addDevCommand(program: Command): void {
  program
    .command("dev")
    .description(
      "run Postgres, Temporal with its Web UI, a worker and the HTTP API on the data directory, until Ctrl-C",
    )
    .action(inSession(dev));
}

async function dev(session: Session): Promise<void> {
  const { isJson } = session;
  const log = (line: string): void => {
    (isJson ? process.stderr : process.stdout).write(`${line}\n`);
  };
  const temporalCli = await findTemporalCli();
  const { runStack } = await import("../../stack/run-stack.ts");
  try {
    await runStack({
      dataDir: session.dataDir,
      temporalCli,
      log,
      onReady: (stack) => {
        session.answer(stack.addresses, () => `${welcome(stack)}\n`);
      },
    });
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    const isBusy = error instanceof StackBusyError;
    const document = { code: isBusy ? "StackBusy" : "StackFailed", message: error.message };
    process.stderr.write(isJson ? json(document) : `error: ${error.message}\n`);
    process.exitCode = isBusy ? 4 : 1;
  }
}

/** Downloads or builds a Temporal CLI if this machine has none that is new enough. */
async function findTemporalCli(): Promise<string> {
  // A script, because `npm start` runs it before there is a build.
  const script = new URL("../../../scripts/temporal-cli.mjs", import.meta.url);
  const { ensureTemporalCli } = (await import(script.href)) as {
    readonly ensureTemporalCli: () => Promise<string>;
  };
  return ensureTemporalCli();
}

function welcome({ addresses, directory }: Stack): string {
  const database = new URL(addresses.database_url);
  database.password = "";
  const isDefault = isDefaultDataDir(directory.path);
  const environment = isDefault ? "" : `IMAGE_IMPORT_DATA_DIR=${directory.path} `;
  return `
Image Import runs; Ctrl-C stops it.

  Web UI     ${addresses.web_ui}
  Temporal   ${addresses.temporal_address}, namespace ${addresses.temporal_namespace}
  API        ${addresses.api_url ?? ""}
  Postgres   ${database.href} (password: ${join(directory.path, "stack.json")})
  Staging    ${directory.staging}
  Store      local: ${directory.localStore}
  Logs       ${directory.logs}

In another terminal:

  ${environment}npx image-import import FILE
  curl ${addresses.api_url ?? ""}/v2/images

For a program, such as those in examples/:

  eval "$(${environment}npx image-import env)"
`;
}
