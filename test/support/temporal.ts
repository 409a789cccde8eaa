import { Client, Connection } from "@temporalio/client";
import { inject, onTestFinished } from "vitest";

/** A client of the shared Temporal server, closed when the running test has finished. */
export async function connectTestClient(): Promise<Client> {
  const connection = await Connection.connect({ address: inject("temporalAddress") });
  onTestFinished(async () => connection.close());
  return new Client({ connection });
}
