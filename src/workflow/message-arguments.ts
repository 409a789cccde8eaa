import { defaultPayloadConverter, rawValueTypeInfo, type RawValue } from "@temporalio/common";
import { cutTo } from "../domain/markdown-text.ts";

const MOST_OF_A_VALUE = 100;

/**
 * The option of a query or signal that takes its arguments as they are. An argument that cannot be
 * read would otherwise fail the workflow task each time, and the import would not continue.
 */
export const ANY_ARGUMENTS = {
  typeInfo: { inputTypes: new Proxy([], { get: () => rawValueTypeInfo }) },
} as const;

/** Arguments for users, such as `"fast", 7`; `nothing` if there is none. */
export function shown(values: readonly unknown[]): string {
  const texts = values.map((value) => (value === undefined ? "undefined" : JSON.stringify(value)));
  return texts.length === 0 ? "nothing" : cutTo(MOST_OF_A_VALUE, texts.join(", "));
}

/** The values of arguments that were taken as they are, without null and undefined. */
export function given(values: readonly RawValue[]): unknown[] {
  return values.map(read).filter((value) => value != null);
}

function read({ payload }: RawValue): unknown {
  try {
    return defaultPayloadConverter.fromPayload(payload);
  } catch {
    return "(unreadable)";
  }
}
