import { ImportError } from "../domain/import-failure.ts";
import { dataDirOf, setting } from "./environment.ts";
import { isForbidden, ownerOf } from "./file-owner.ts";
import { readStackFile, stackFilePath, type StackFile } from "./stack-file.ts";
import { temporalAddress, type TemporalAddress } from "./temporal-address.ts";

/** The options of the command line that locate the service. */
export interface LocationOptions {
  /**
   * Data directory of a stack. Default: `IMAGE_IMPORT_DATA_DIR`, else that of {@link dataDirOf}.
   */
  readonly dataDir?: string | undefined;
  /** The configuration file. Default: `IMAGE_IMPORT_CONFIG`, else that of the stack. */
  readonly config?: string | undefined;
}

/** The places of the parts of the service. */
export interface ServiceLocation {
  /** The data directory that was searched for a stack. */
  readonly dataDir: string;
  /** The stack that was found there. It may not run: a killed one leaves its file behind. */
  readonly stack: StackFile | undefined;
  /** The catalogue; undefined when nothing names one. */
  readonly databaseUrl: string | undefined;
  /**
   * The Temporal server. Default: Temporal's own default, `localhost:7233`.
   */
  readonly temporal: TemporalAddress;
  /** True if the Temporal server is configured, or a stack was found. */
  readonly isTemporalNamed: boolean;
  /** Address of Temporal's Web UI; undefined when nothing names one for this server. */
  readonly webUi: string | undefined;
  /** Path of the configuration file; undefined when nothing names one. */
  readonly configPath: string | undefined;
}

/**
 * Finds the service: the addresses of the stack on the data directory, each replaced by what is
 * configured explicitly (`--config`, `DATABASE_URL`, `TEMPORAL_*`, `IMAGE_IMPORT_CONFIG`).
 *
 * @param env - the environment; `TEMPORAL_*` are always read from that of this process, by
 *   Temporal's own rules
 * @throws ImportError `BadConfiguration` when the stack file or Temporal's configuration can't be
 *   read
 */
export function locateService(
  options: LocationOptions,
  env: NodeJS.ProcessEnv = process.env,
): ServiceLocation {
  const dataDir = dataDirOf(options.dataDir, env);
  const stack = readStack(dataDir);
  const explicit = readTemporal(undefined);
  return {
    dataDir,
    stack,
    databaseUrl: setting(env, "DATABASE_URL") ?? stack?.database_url,
    temporal: stack === undefined ? explicit : readTemporal(stack),
    isTemporalNamed: stack !== undefined || explicit.connection.address !== undefined,
    // The Web UI of the stack shows nothing of another server.
    webUi:
      setting(env, "IMAGE_IMPORT_WEB_UI") ??
      (explicit.connection.address === undefined ? stack?.web_ui : undefined),
    configPath: options.config ?? setting(env, "IMAGE_IMPORT_CONFIG") ?? stack?.config,
  };
}

function readStack(dataDir: string): StackFile | undefined {
  try {
    return readStackFile(dataDir);
  } catch (cause) {
    const path = stackFilePath(dataDir);
    if (isForbidden(cause)) {
      const owner = ownerOf(dataDir);
      const reason =
        owner === undefined ? reasonOf(cause) : `the data directory belongs to ${owner}`;
      throw new ImportError("BadConfiguration", `Cannot read "${path}": ${reason}`, {
        cause,
        hint: "Run the command as that user, or name your own data directory with --data-dir or IMAGE_IMPORT_DATA_DIR.",
      });
    }
    throw new ImportError("BadConfiguration", reasonOf(cause), {
      cause,
      hint: `Stop the stack that wrote "${path}", delete the file, or name another --data-dir.`,
    });
  }
}

function readTemporal(stack: StackFile | undefined): TemporalAddress {
  try {
    if (stack === undefined) return temporalAddress();
    return temporalAddress({
      address: stack.temporal_address,
      namespace: stack.temporal_namespace,
    });
  } catch (cause) {
    throw new ImportError(
      "BadConfiguration",
      `Cannot read Temporal's configuration: ${reasonOf(cause)}`,
      {
        cause,
        hint: "Correct the TEMPORAL_* variables, or the file that TEMPORAL_CONFIG_FILE names.",
      },
    );
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
