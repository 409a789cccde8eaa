import { setImmediate as nextTurn } from "node:timers/promises";
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
/** For statements under way on connections that are to end. */
const LAST_SECONDS = 1;

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
    return this.#within((pool) => transact(pool, work));
  }

  /** Ends all connections; statements under way get a second to finish. */
  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = undefined;
    await pool?.end({ timeout: LAST_SECONDS });
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
      // The server may have restarted, and the other connections with it; statements on them get a moment to finish.
      if (isCut(error)) this.#discard(pool, LAST_SECONDS);
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

  /** A pool with a connection that hangs or broke is given up whole; the next statement opens a new one. */
  #discard(pool: postgres.Sql, timeout = 0): void {
    if (this.#pool === pool) this.#pool = undefined;
    void pool.end({ timeout }).catch(() => undefined);
  }
}

/**
 * A transaction whose work outlives its connection. postgres.js (3.4.9) writes what is sent on a connection that has gone
 * into a socket that is none, and throws that where nobody can catch it: the next statement of the work would end this
 * process, and so would the ROLLBACK that it sends by itself when the work fails. So the work gets no statement any more,
 * and does not seem to fail: postgres.js learns from the connection that the transaction has.
 */
async function transact<T>(pool: postgres.Sql, work: (queries: Queries) => Promise<T>): Promise<T> {
  let isOver = false;
  const untilOver = (queries: Queries): Queries =>
    new Proxy(queries, {
      get: (target, name, receiver): unknown => {
        if (isOver) throw new ImportError("DatabaseUnavailable", "Postgres: the connection broke");
        return Reflect.get(target, name, receiver);
      },
    });
  try {
    return await drizzle(pool).transaction((queries) =>
      work(untilOver(queries)).catch(async (error: unknown) => {
        // A statement fails a moment before its connection is known to have gone.
        await nextTurn();
        if (isOver) return new Promise<never>(() => undefined);
        throw error;
      }),
    );
  } finally {
    isOver = true;
  }
}

// Class 08: connection; 57P: operator intervention; 53: resources; 40001, 40P01: the transaction may be run again;
// 55P03, 57014: our own time limits; 28, 3D000: a server that refuses us, as while a password or an address changes.
// https://www.postgresql.org/docs/18/errcodes-appendix.html
const TRANSIENT_STATES = /^(08|57P|25P03|53|40001|40P01|55P03|57014|28|3D000)/;
const CONNECTION_CODES =
  /^(CONNECTION_|CONNECT_TIMEOUT|ECONN|ENOTFOUND|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN)/;

// Class 08: connection; 57P: operator intervention; 25P03: idle in a transaction. The server ends the session with them.
const LAST_STATES = /^(08|57P|25P03)/;

/** Whether the connection is gone, or just going, on which that happened. */
function isCut(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const code = codeOf(cause);
    if (LAST_STATES.test(code) || CONNECTION_CODES.test(code)) return true;
  }
  return false;
}

/** Tells a database that is away from a statement that is wrong; the latter is a bug and passes through. */
export function databaseFailure(error: unknown): unknown {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ImportError) return cause;
    const code = codeOf(cause);
    if (TRANSIENT_STATES.test(code) || CONNECTION_CODES.test(code) || isMissingSocket(cause)) {
      return new ImportError("DatabaseUnavailable", `Postgres: ${cause.message}`, { cause: error });
    }
  }
  return error;
}

function codeOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : "";
}

/** What a server says that is to be reached by a socket file; other missing files are those of the work. */
function isMissingSocket(error: Error): boolean {
  return hasErrorCode(error, "ENOENT") && "syscall" in error && error.syscall === "connect";
}
