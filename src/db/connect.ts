import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { hasErrorCode } from "../bytes/system-error.ts";
import { ImportError } from "../domain/import-failure.ts";

/** What runs statements: a transaction, or the pool for a single statement. */
export type Queries = Pick<
  PostgresJsDatabase,
  "select" | "selectDistinct" | "insert" | "update" | "delete" | "execute"
>;

/** How the catalogue is reached. */
export interface DatabaseOptions {
  /** `postgres://user:password@host:port/database`. */
  readonly url: string;
  /** Connections at most. Default: 8, a little more than the database steps that one worker runs at once. */
  readonly maxConnections?: number;
  /** How long a statement may take in the server, in ms. Default: 20 s, below the 30 s of a database step. */
  readonly statementTimeoutMs?: number;
}

const DEFAULT_STATEMENT_TIMEOUT_MS = 20_000;
// The server's limit fires first when the server is alive; ours is for a server that no longer answers.
const CLIENT_MARGIN_MS = 5_000;

/** The catalogue. Every statement has a time limit in the server and one here. */
export class Database {
  readonly #options: DatabaseOptions;
  #pool: postgres.Sql | undefined;

  constructor(options: DatabaseOptions) {
    this.#options = options;
  }

  /**
   * Runs a single statement, or several that need not agree.
   *
   * @throws ImportError `DatabaseUnavailable` when the database can't be reached or doesn't answer in time
   */
  async query<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#within((pool) => work(drizzle(pool)));
  }

  /**
   * Runs statements that take effect together or not at all. When the answer to COMMIT is lost, the outcome is
   * unknown and this throws `DatabaseUnavailable`: the work must be safe to run again.
   */
  async transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#within((pool) => drizzle(pool).transaction((transaction) => work(transaction)));
  }

  /** Ends all connections; statements under way get a second to finish. */
  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = undefined;
    await pool?.end({ timeout: 1 });
  }

  async #within<T>(work: (pool: postgres.Sql) => Promise<T>): Promise<T> {
    const pool = (this.#pool ??= this.#open());
    const limitMs =
      (this.#options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS) + CLIENT_MARGIN_MS;
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        this.#discard(pool);
        reject(
          new ImportError(
            "DatabaseUnavailable",
            `Postgres did not answer within ${String(limitMs)} ms`,
          ),
        );
      }, limitMs);
    });
    try {
      return await Promise.race([work(pool), silence]);
    } catch (error) {
      throw databaseFailure(error);
    } finally {
      clearTimeout(timer);
    }
  }

  #open(): postgres.Sql {
    return postgres(this.#options.url, {
      max: this.#options.maxConnections ?? 8,
      connect_timeout: 10,
      idle_timeout: 60,
      onnotice: () => undefined,
      connection: {
        application_name: "image-import",
        statement_timeout: this.#options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS,
        lock_timeout: this.#options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS,
        idle_in_transaction_session_timeout: 30_000,
      },
    });
  }

  /** A pool with a connection that hangs is given up whole; the next statement opens a new one. */
  #discard(pool: postgres.Sql): void {
    if (this.#pool === pool) this.#pool = undefined;
    void pool.end({ timeout: 0 }).catch(() => undefined);
  }
}

// Class 08: connection; 57P: operator intervention; 53: resources; 40001, 40P01: the transaction may be run again;
// 55P03, 57014: our own time limits; 28, 3D000: a server that refuses us, as while a password or an address changes.
// https://www.postgresql.org/docs/18/errcodes-appendix.html
const TRANSIENT_STATES = /^(08|57P|53|40001|40P01|55P03|57014|28|3D000)/;
const CONNECTION_CODES =
  /^(CONNECTION_|CONNECT_TIMEOUT|ECONN|ENOTFOUND|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN)/;

/** Tells a database that is away from a statement that is wrong; the latter is a bug and passes through. */
export function databaseFailure(error: unknown): unknown {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ImportError) return cause;
    const code = "code" in cause && typeof cause.code === "string" ? cause.code : "";
    if (TRANSIENT_STATES.test(code) || CONNECTION_CODES.test(code) || isMissingSocket(cause)) {
      return new ImportError("DatabaseUnavailable", `Postgres: ${cause.message}`, { cause: error });
    }
  }
  return error;
}

/** What a server says that is to be reached by a socket file; other missing files are those of the work. */
function isMissingSocket(error: Error): boolean {
  return hasErrorCode(error, "ENOENT") && "syscall" in error && error.syscall === "connect";
}
