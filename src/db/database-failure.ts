import { hasErrorCode } from "../bytes/system-error.ts";
import { ImportError } from "../domain/import-failure.ts";

/** The meaning of a group of SQLSTATEs for the statement that failed. */
interface Condition {
  /**
   * `away`: the same statement may succeed later. `refused`: an operator must change the database.
   * `bug`: ours.
   */
  readonly kind: "away" | "refused" | "bug";
  /** The way out. Default: that of the failure code. */
  readonly hint?: string;
}

const RETRIED = "the step is retried automatically.";

/**
 * SQLSTATEs and classes of them (the first two characters), the longest match counts. A SQLSTATE
 * that the table does not name is retried: an import must not fail because of an unknown condition
 * of the server.
 *
 * https://www.postgresql.org/docs/18/errcodes-appendix.html
 */
const CONDITIONS: Readonly<Record<string, Condition>> = {
  // Protocol: a migration has changed a table under a prepared statement, or a pooler has changed
  // the session under it.
  "0A": { kind: "bug" },
  "0A000": { kind: "away" },
  "26": { kind: "away", hint: `Let the connection pooler keep prepared statements; ${RETRIED}` },
  "42P05": { kind: "away", hint: `Let the connection pooler keep prepared statements; ${RETRIED}` },
  // State of the session.
  "25": { kind: "away" },
  "25001": { kind: "bug" },
  "25006": {
    kind: "away",
    hint: `The database is read-only, as a standby is: let DATABASE_URL lead to the primary, or end the read-only mode; ${RETRIED}`,
  },
  // Access.
  "28": {
    kind: "away",
    hint: `Correct user and password in DATABASE_URL, or pg_hba.conf of the server; ${RETRIED}`,
  },
  "3D": {
    kind: "away",
    hint: `Correct the database in DATABASE_URL, or create it; ${RETRIED}`,
  },
  "42501": {
    kind: "refused",
    hint: "GRANT this user of DATABASE_URL all rights on the tables, or let it own them.",
  },
  // A schema of another version. 3F000: schema, 42P01: table, 42703: column, 42704: type, 42883:
  // function.
  "3F": { kind: "refused", hint: "`image-import migrate` brings the database up to date." },
  "42P01": { kind: "refused", hint: "`image-import migrate` brings the database up to date." },
  "42703": { kind: "refused", hint: "`image-import migrate` brings the database up to date." },
  "42704": { kind: "refused", hint: "`image-import migrate` brings the database up to date." },
  "42883": { kind: "refused", hint: "`image-import migrate` brings the database up to date." },
  // Resources.
  "53": { kind: "away", hint: `Give Postgres more memory or disk space; ${RETRIED}` },
  "53100": { kind: "away", hint: `Free disk space of Postgres; ${RETRIED}` },
  "53300": {
    kind: "away",
    hint: `Raise max_connections of Postgres, or end other sessions; ${RETRIED}`,
  },
  // 54000 alone: the server runs out of transaction numbers and needs a VACUUM.
  "54": { kind: "bug" },
  "54000": { kind: "away", hint: `Look into the log of Postgres; ${RETRIED}` },
  "55P03": { kind: "away", hint: `Find out in pg_stat_activity who holds the lock; ${RETRIED}` },
  "57014": {
    kind: "away",
    hint: `Find out in pg_stat_activity what slows Postgres; ${RETRIED}`,
  },
  // Broken files or a broken server.
  "58": { kind: "away", hint: `Look into the log of Postgres and at its disks; ${RETRIED}` },
  XX: { kind: "away", hint: `Look into the log of Postgres and at its disks; ${RETRIED}` },
  // A statement or its values are wrong: a retry would fail in the same way.
  "0B": { kind: "bug" },
  "0L": { kind: "bug" },
  "0P": { kind: "bug" },
  "0Z": { kind: "bug" },
  "20": { kind: "bug" },
  "21": { kind: "bug" },
  "22": { kind: "bug" },
  "23": { kind: "bug" },
  "24": { kind: "bug" },
  "27": { kind: "bug" },
  "2B": { kind: "bug" },
  "2D": { kind: "bug" },
  "2F": { kind: "bug" },
  "34": { kind: "bug" },
  "38": { kind: "bug" },
  "39": { kind: "bug" },
  "3B": { kind: "bug" },
  "42": { kind: "bug" },
  "44": { kind: "bug" },
  P0: { kind: "bug" },
};

const UNKNOWN: Condition = { kind: "away" };
// Class 08: connection; 57P: operator intervention; 25006: after a fail-over DATABASE_URL leads to
// another server; 0A000, 26000: the session's prepared statements are of no use any more.
const LAST_STATES = /^(08|57P|25006|25P03|25P04|0A000|26000)/;
// Codes of postgres.js for calls that it does not understand.
const MISUSES = [
  "COPY_IN_PROGRESS",
  "MAX_PARAMETERS_EXCEEDED",
  "NOT_TAGGED_CALL",
  "UNDEFINED_VALUE",
  "UNSAFE_TRANSACTION",
];
const CONNECTION_CODES =
  /^(CONNECTION_|CONNECT_TIMEOUT|SASL_|AUTH_TYPE_|MESSAGE_NOT_SUPPORTED|ECONN|ENOTFOUND|EPIPE|ETIMEDOUT|EHOST|ENET|EAI_|EADDR)/;
// Codes of OpenSSL and Node for a certificate or a handshake.
const TLS_CODES =
  /^(ERR_SSL_|ERR_TLS_|EPROTO$|CERT_|CRL_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE)/;
const TLS_HINT = `Correct \`sslmode\` in DATABASE_URL, or the certificate of Postgres; ${RETRIED}`;

/**
 * A refusal of the database that an operator ends with a command: a missing right, or tables of
 * another version. Accepted imports need not fail because of it.
 */
export class DatabaseRefusal extends ImportError {
  constructor(message: string, hint: string, cause: Error) {
    super("BadConfiguration", message, { cause, hint });
  }
}

/**
 * A statement of ours that Postgres or its driver rejects: a bug. Unlike Drizzle's error it
 * contains neither the statement nor its parameters, which may be secrets. `code` is the SQLSTATE,
 * or the code or name of the driver's error. `constraint` names the constraint that was violated.
 */
export class StatementError extends Error {
  override readonly name = "StatementError";
  readonly code: string;
  readonly constraint: string | undefined;

  constructor(code: string, message: string, constraint?: string) {
    super(message);
    this.code = code;
    this.constraint = constraint;
  }
}

/**
 * Translates an error of a statement, a connection or the work around them. Errors that do not
 * come from the database are returned as they are.
 */
export function databaseFailure(error: unknown): unknown {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ImportError || cause instanceof StatementError) return cause;
    if (isStatement(cause)) continue;
    return ofDriver(cause, cause !== error) ?? error;
  }
  return error;
}

/**
 * True if the connection of this error is broken or ending, leads to a server that became a
 * standby, or has prepared statements that cannot be used any more.
 */
export function needsNewConnection(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    // The server ends a session with a FATAL message, whatever its code.
    if (isFatal(cause)) return true;
    const code = codeOf(cause);
    if (cause.name === "PostgresError" ? LAST_STATES.test(code) : isOfConnection(code)) return true;
  }
  return false;
}

function isOfConnection(code: string): boolean {
  return CONNECTION_CODES.test(code) || TLS_CODES.test(code);
}

/**
 * The error that Drizzle puts around that of a statement; its text holds the statement and the
 * parameters.
 */
function isStatement(error: Error): boolean {
  return "query" in error && "params" in error && error.cause instanceof Error;
}

/**
 * @param isOfStatement - true if a statement failed with it; else it may come from the work around
 *   the statements
 */
function ofDriver(error: Error, isOfStatement: boolean): Error | undefined {
  const code = codeOf(error);
  if (error.name === "PostgresError") return ofServer(error, code);
  if (MISUSES.includes(code)) return new StatementError(code, `postgres.js: ${code}`);
  if (TLS_CODES.test(code)) return away(error, { kind: "away", hint: TLS_HINT });
  if (CONNECTION_CODES.test(code) || isMissingSocket(error)) return away(error, UNKNOWN);
  if (!isOfStatement) return undefined;
  if (code !== "") return away(error, UNKNOWN);
  // A value that the driver cannot encode. Its message contains the value, and is dropped.
  return new StatementError(error.name, `Postgres: a statement failed with ${error.name}`);
}

function ofServer(error: Error, code: string): Error {
  const condition = CONDITIONS[code] ?? CONDITIONS[code.slice(0, 2)] ?? UNKNOWN;
  if (condition.kind === "refused") {
    return new DatabaseRefusal(`Postgres: ${error.message}`, condition.hint ?? "", error);
  }
  // A server that ends the session refuses the session, not the statement.
  if (condition.kind === "away" || isFatal(error)) return away(error, condition);
  // Class 22 is about a value, which Postgres quotes. It may be a secret.
  const text = code.startsWith("22") ? error.message.replace(/".*"/s, '"…"') : error.message;
  return new StatementError(code, `Postgres ${code}: ${text}`, constraintOf(error));
}

function away(error: Error, { hint }: Condition): ImportError {
  return new ImportError("DatabaseUnavailable", `Postgres: ${error.message}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

function isFatal(error: Error): boolean {
  return (
    error.name === "PostgresError" &&
    "severity" in error &&
    (error.severity === "FATAL" || error.severity === "PANIC")
  );
}

function constraintOf(error: Error): string | undefined {
  const isNamed = "constraint_name" in error && typeof error.constraint_name === "string";
  return isNamed ? String(error.constraint_name) : undefined;
}

function codeOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : "";
}

/**
 * True if the socket file of the server is missing or forbidden. Such an error of another system
 * call than `connect` belongs to the work.
 */
function isMissingSocket(error: Error): boolean {
  return (
    hasErrorCode(error, "ENOENT", "EACCES", "EPERM") &&
    "syscall" in error &&
    error.syscall === "connect"
  );
}
