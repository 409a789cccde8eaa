import { onTestFinished, vi } from "vitest";
import type { Database, Queries } from "../../src/db/connect.ts";
import { ImportError } from "../../src/domain/import-failure.ts";

/** A database that is unreachable for some calls; to be mended, or until the test is over. */
export interface BrokenDatabase {
  /** The number of calls that failed. */
  readonly failures: () => number;
  readonly mend: () => void;
}

/** Makes those calls fail, counted from 0, that are chosen: as if the server were restarting. */
export function breakDatabase(
  database: Database,
  isBroken: (call: number) => boolean,
): BrokenDatabase {
  let calls = 0;
  let failures = 0;
  const spies = (["query", "transaction"] as const).map((name) => {
    const real = database[name].bind(database);
    const broken = async <T>(work: (queries: Queries) => Promise<T>): Promise<T> => {
      calls += 1;
      if (!isBroken(calls - 1)) return await real(work as never);
      failures += 1;
      throw new ImportError("DatabaseUnavailable", "Postgres: the database system is starting up");
    };
    return vi.spyOn(database, name).mockImplementation(broken);
  });
  const mend = (): void => {
    for (const spy of spies) spy.mockRestore();
  };
  onTestFinished(mend);
  return { failures: () => failures, mend };
}

/**
 * Half of all calls, the first included, without a period (the Thue-Morse sequence): of two loops
 * that take turns, one would always meet every other call.
 */
export function nowAndThen(call: number): boolean {
  return call.toString(2).replaceAll("0", "").length % 2 === 0;
}
