import type { ConnectionLike } from "@temporalio/client";
import { encodeSearchAttributeIndexedValueType } from "@temporalio/common/lib/search-attributes.js";
import { SEARCH_ATTRIBUTES } from "../workflow/contract.ts";

/**
 * The search attributes of imports: the server's number of the type, by name.
 */
const WANTED = Object.fromEntries(
  Object.values(SEARCH_ATTRIBUTES).flatMap(({ name, type }) => {
    const number = encodeSearchAttributeIndexedValueType(type);
    return number === undefined ? [] : [[name, number]];
  }),
);

// gRPC's ALREADY_EXISTS: another process registered them between our two calls.
const ALREADY_EXISTS = 6;

/**
 * Registers the search attributes of imports that the namespace lacks. Many processes may do so at
 * once.
 */
export async function registerSearchAttributes(
  connection: Pick<ConnectionLike, "operatorService">,
  namespace: string,
): Promise<void> {
  for (;;) {
    const missing = await missingSearchAttributes(connection, namespace);
    if (missing.length === 0) return;
    const searchAttributes = Object.fromEntries(
      Object.entries(WANTED).filter(([name]) => missing.includes(name)),
    );
    try {
      await connection.operatorService.addSearchAttributes({ namespace, searchAttributes });
      return;
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
  }
}

/** Names of the search attributes of imports that the namespace lacks. */
export async function missingSearchAttributes(
  connection: Pick<ConnectionLike, "operatorService">,
  namespace: string,
): Promise<string[]> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  return Object.keys(WANTED).filter((name) => !(name in customAttributes));
}

// Many imports that start at once share one request. After the loss of the server's data, the
// function returns a wrong result for at most this time.
const KNOWN_FOR_MS = 5_000;

/**
 * Makes the function with which the acceptance of an import finds out which search attributes the
 * namespace has. It also registers the missing ones, for later imports. If the server does not list
 * its search attributes, the function returns none.
 */
export function rememberSearchAttributes(
  connection: Pick<ConnectionLike, "operatorService">,
  namespace: string,
): () => Promise<readonly string[]> {
  let known: { readonly untilMs: number; readonly names: Promise<readonly string[]> } | undefined;
  const ask = async (): Promise<readonly string[]> => {
    try {
      const missing = await missingSearchAttributes(connection, namespace);
      if (missing.length > 0) {
        await registerSearchAttributes(connection, namespace).catch(() => undefined);
      }
      return Object.keys(WANTED).filter((name) => !missing.includes(name));
    } catch {
      return [];
    }
  };
  return async () => {
    if (known === undefined || known.untilMs < performance.now()) {
      known = { untilMs: performance.now() + KNOWN_FOR_MS, names: ask() };
    }
    return known.names;
  };
}

function isAlreadyExists(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === ALREADY_EXISTS;
}
