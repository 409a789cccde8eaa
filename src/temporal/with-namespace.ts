import { Connection } from "@temporalio/client";
import type { TemporalAddress } from "../config/temporal-address.ts";
import { temporalFailure } from "./temporal-failure.ts";

/**
 * Runs some work on a namespace, on a connection of its own.
 *
 * @throws ImportError `TemporalUnavailable`
 */
export async function withNamespace<T>(
  { connection: options, namespace }: TemporalAddress,
  work: (connection: Connection, namespace: string) => Promise<T>,
): Promise<T> {
  try {
    const connection = await Connection.connect(options);
    try {
      return await work(connection, namespace);
    } finally {
      await connection.close();
    }
  } catch (error) {
    throw temporalFailure(error, options.address);
  }
}
