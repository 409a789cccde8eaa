import type { WorkflowInterceptorsFactory } from "@temporalio/workflow";

// Each run has its own copy of this module's variables.
let attributes: Readonly<Record<string, string>> = {};

/** Adds fields to all later log lines of this run, including those of the SDK. */
export function logWith(fields: Readonly<Record<string, string>>): void {
  attributes = { ...attributes, ...fields };
}

/** Bundled with the workflows as their interceptors. */
export const interceptors: WorkflowInterceptorsFactory = () => ({
  outbound: [{ getLogAttributes: (input, next) => next({ ...input, ...attributes }) }],
});
