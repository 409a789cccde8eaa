import { setImmediate as nextTurn } from "node:timers/promises";
import type { PgTransactionConfig } from "drizzle-orm/pg-core";
import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { ImportError } from "../domain/import-failure.ts";
import { databaseFailure, needsNewConnection } from "./database-failure.ts";
import { ConnectionQueue } from "./connection-queue.ts";

/** Runs statements: a transaction, or the pool for a single statement. */
export type Queries = Pick<
  PostgresJsDatabase,
  "select" | "selectDistinct" | "insert" | "update" | "delete" | "execute"
>;

/** Settings of the connection to the catalogue. */
export interface DatabaseOptions {
  /** `postgres://user:password@host:port/database`. */
  readonly url: string;
  /**
   * The largest number of connections, not counting the one for renewals. Default: 8
   */
  readonly maxConnections?: number;
  /**
   * Time limit of a statement in the server, in ms. Default: 20 s, below the 30 s of a database
   * step.
   */
  readonly statementTimeoutMs?: number;
}

const DEFAULT_STATEMENT_TIMEOUT_MS = 20_000;
// The server's limit fires first when the server is alive; ours is for a server that no longer
// responds.
const CLIENT_MARGIN_MS = 5_000;
// A renewal that meets a lock of its own upload must not hold up the others behind it; it is tried
// again with the next one.
const RENEWAL_LOCK_TIMEOUT_MS = 1_000;
/** Time that running statements get before their connection is closed. */
const LAST_SECONDS = 1;

function connectionsOf({ maxConnections = 8 }: DatabaseOptions): number {
  return maxConnections;
}

function closedBefore(): ImportError {
  // Not a code after which callers try again.
  return new ImportError("Interrupted", "The connection to Postgres was closed");
}

// By default each statement of a transaction sees what committed before it.
const ONE_STATE = { isolationLevel: "repeatable read", accessMode: "read only" } as const;

/** A group of statements with connections of its own. */
type Lane = "statements" | "renewals";

/**
 * The catalogue. Every statement has a time limit in the server. A call with all its statements has
 * one in this process, which begins when a connection is free: a long queue on a busy machine does
 * not mean that the database is silent.
 */
export class Database {
  readonly #options: DatabaseOptions;
  readonly #pools = new Map<Lane, postgres.Sql>();
  readonly #queues: Readonly<Record<Lane, ConnectionQueue>>;
  #isClosed = false;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#queues = {
      statements: new ConnectionQueue(connectionsOf(options)),
      renewals: new ConnectionQueue(1),
    };
  }

  /**
   * Runs a single statement, or several that need not see the same state.
   *
   * @throws ImportError `DatabaseUnavailable` when the database is unreachable, does not respond in
   *   time, or cannot do it now; `BadConfiguration` when DATABASE_URL is not a URL, or an operator
   *   must change the database; StatementError when a statement is wrong
   */
  async query<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#within("statements", (pool) => work(drizzle(pool)));
  }

  /**
   * Runs the single statement that renews a lease. It has a connection of its own: a renewal that
   * waits behind the transactions of many uploads comes too late, and another process takes over.
   *
   * @throws as {@link query}
   */
  async renewal<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#within("renewals", (pool) => work(drizzle(pool)));
  }

  /**
   * Runs statements that take effect together or not at all. When the response to COMMIT is lost,
   * the outcome is unknown and this throws `DatabaseUnavailable`: the work must be safe to run
   * again.
   */
  async transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#within("statements", (pool) => transact(pool, work));
  }

  /**
   * Runs statements that read one state of the catalogue, and write nothing: what commits meanwhile
   * is in all of their results or in none.
   *
   * @throws as {@link query}
   */
  async snapshot<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#within("statements", (pool) => transact(pool, work, ONE_STATE));
  }

  /** Ends all connections; statements under way get a second to finish. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const queue of Object.values(this.#queues)) queue.rejectWaiting(closedBefore());
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => pool.end({ timeout: LAST_SECONDS })));
  }

  async #within<T>(lane: Lane, work: (pool: postgres.Sql) => Promise<T>): Promise<T> {
    return this.#queues[lane].run(() => this.#connected(lane, work));
  }

  async #connected<T>(lane: Lane, work: (pool: postgres.Sql) => Promise<T>): Promise<T> {
    if (this.#isClosed) throw closedBefore();
    const pool = this.#pools.get(lane) ?? this.#open(lane);
    const limitMs =
      (this.#options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS) + CLIENT_MARGIN_MS;
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        this.#discard(lane, pool);
        const failure = new ImportError(
          "DatabaseUnavailable",
          `Postgres did not respond within ${String(limitMs)} ms`,
        );
        // Calls that wait for a connection would meet the same silence, one after the other.
        this.#queues[lane].rejectWaiting(failure);
        reject(failure);
      }, limitMs);
    });
    try {
      return await Promise.race([work(pool), silence]);
    } catch (error) {
      // The server may have restarted, and the other connections with it; statements on them get a
      // moment to finish.
      if (needsNewConnection(error)) this.#discard(lane, pool, LAST_SECONDS);
      throw databaseFailure(error);
    } finally {
      clearTimeout(timer);
    }
  }

  #open(lane: Lane): postgres.Sql {
    const isRenewal = lane === "renewals";
    const timeoutMs = this.#options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS;
    const pool = connectTo(this.#options.url, {
      max: isRenewal ? 1 : connectionsOf(this.#options),
      connect_timeout: 10,
      idle_timeout: 60,
      connection: {
        application_name: "image-import",
        statement_timeout: timeoutMs,
        lock_timeout: isRenewal ? Math.min(RENEWAL_LOCK_TIMEOUT_MS, timeoutMs) : timeoutMs,
        idle_in_transaction_session_timeout: 30_000,
      },
    });
    this.#pools.set(lane, pool);
    return pool;
  }

  /**
   * A pool with a connection that hangs or broke is given up whole; the next statement opens a new
   * one.
   */
  #discard(lane: Lane, pool: postgres.Sql, timeout = 0): void {
    if (this.#pools.get(lane) === pool) this.#pools.delete(lane);
    void pool.end({ timeout }).catch(() => undefined);
  }
}

/**
 * Opens a pool; connections are made when a statement needs one.
 *
 * @throws ImportError `BadConfiguration` when `url` is not a URL; the message does not contain it,
 *   it may hold a password
 */
export function connectTo(
  url: string,
  options: postgres.Options<Record<string, postgres.PostgresType>>,
): postgres.Sql {
  try {
    return postgres(url, {
      onnotice: () => undefined,
      // postgres.js (3.4.9) asks for the array types on each new connection, and its rejection
      // cannot be caught when the server ends the session meanwhile: that would end this process.
      // Drizzle reads and writes arrays without.
      fetch_types: false,
      ...options,
    });
  } catch (cause) {
    const reason = cause instanceof Error && "code" in cause ? String(cause.code) : "no URL";
    throw new ImportError(
      "BadConfiguration",
      `Cannot use DATABASE_URL: it is not a URL (${reason})`,
      {
        hint: "Set DATABASE_URL to postgres://USER:PASSWORD@HOST:PORT/DATABASE; encode special characters of the password.",
      },
    );
  }
}

/**
 * Runs a transaction whose work may outlive its connection. postgres.js (3.4.9) writes statements
 * for a broken connection into a missing socket, and throws where no caller can catch it: the next
 * statement of the work would end this process, and so would the automatic ROLLBACK when the work
 * fails. So the work gets no further statement, and does not seem to fail: postgres.js learns from
 * the connection that the transaction failed.
 */
export async function transact<T>(
  pool: postgres.Sql,
  work: (queries: Queries) => Promise<T>,
  config?: PgTransactionConfig,
): Promise<T> {
  let isOver = false;
  const untilOver = (queries: Queries): Queries =>
    new Proxy(queries, {
      get: (target, name, receiver): unknown => {
        if (isOver) throw new ImportError("DatabaseUnavailable", "Postgres: the connection broke");
        return Reflect.get(target, name, receiver);
      },
    });
  try {
    return await drizzle(pool).transaction(
      (queries) =>
        work(untilOver(queries)).catch(async (error: unknown) => {
          // A statement fails a moment before its connection is known to have gone.
          await nextTurn();
          if (isOver) return new Promise<never>(() => undefined);
          throw error;
        }),
      config,
    );
  } finally {
    isOver = true;
  }
}
