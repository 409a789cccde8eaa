import { Command } from "commander";
import { packageVersion } from "../config/package-version.ts";
import { addApiCommands } from "./commands/api.ts";
import { addCompletionCommand } from "./commands/completion.ts";
import { addDevCommand } from "./commands/dev.ts";
import { addDoctorCommand } from "./commands/doctor.ts";
import { addEnvCommand } from "./commands/env.ts";
import { addImageCommands } from "./commands/image.ts";
import { addImportCommand } from "./commands/import.ts";
import { addInspectCommand } from "./commands/inspect.ts";
import { addMigrateCommand } from "./commands/migrate.ts";
import { addReconcileCommand } from "./commands/reconcile.ts";
import { addStartCommand } from "./commands/start.ts";
import { addStatusCommands } from "./commands/status.ts";
import { addSteeringCommands } from "./commands/steer.ts";
import { addStoresCommand } from "./commands/stores.ts";
import { addTaskCommands } from "./commands/task.ts";
import { addUsageCommand } from "./commands/usage.ts";
import { addWorkerCommand } from "./commands/worker.ts";
import { showExamples } from "./examples.ts";

/** The end of `--help` of the program, and the notes of its man page. */
export const EPILOGUE = `
The service is the stack on the data directory; DATABASE_URL, TEMPORAL_* and IMAGE_IMPORT_CONFIG
override it. --api and IMAGE_IMPORT_API name an HTTP API instead.
Exit codes: 0 done (also detached), 1 failed or cancelled, 2 wrong use, 3 not found, 4 conflict,
5 requested, and no worker has answered yet, 6 left before the end: the import continues.
`;

/**
 * All commands. A mistake in the arguments is thrown as commander's `CommanderError`.
 *
 * @param writeOut - takes the texts of `--help` and `--version`
 */
export function buildProgram(writeOut: (text: string) => void): Command {
  const program = new Command("image-import")
    .description("Durable imports of disk images")
    .version(packageVersion())
    .option("--json", "answer with one JSON document on stdout, errors as one on stderr")
    .option("--quiet", "show no progress and no notes, only the answer, warnings and errors")
    .option("--no-progress", "show a line for each change instead of live lines")
    .option("--verbose", "show more: each failed attempt, the run and its link")
    .option("--data-dir <dir>", "data directory of the stack to use")
    .option("--config <file>", "configuration file of this host")
    .option("--api <url>", "use this API instead of a service on this host")
    .option(
      "--api-token <token>",
      "token for the API; default: IMAGE_IMPORT_API_TOKEN, else OS_TOKEN",
    )
    // Settings before the commands: each command copies them when it is added.
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut,
      // Failures are reported in one place, `renderFailure`.
      outputError: () => undefined,
      writeErr: () => undefined,
    });
  addDevCommand(program);
  addEnvCommand(program);
  addImportCommand(program);
  addInspectCommand(program);
  addImageCommands(program);
  addStartCommand(program);
  addStatusCommands(program);
  addSteeringCommands(program);
  addTaskCommands(program);
  addUsageCommand(program);
  addStoresCommand(program);
  addWorkerCommand(program);
  addApiCommands(program);
  addMigrateCommand(program);
  addDoctorCommand(program);
  addReconcileCommand(program);
  addCompletionCommand(program);
  showExamples(program);
  return program.addHelpText("after", EPILOGUE);
}
