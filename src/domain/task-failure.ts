import { placeText, type FailureDetails } from "./failure-details.ts";

/** The end of a task that failed. */
export interface TaskFailure {
  /** Glance's message: `Error: <code>: <place>: <text>`. */
  readonly message: string;
  /** The failure in this message. Absent if a workflow of 0.1.0 ends the task. */
  readonly failure?: FailureDetails;
}

/** The end of a task with this failure. */
export function taskFailure(failure: FailureDetails, text: string): Required<TaskFailure> {
  const place = placeText(failure);
  const placed = place === "" ? text : `${place}: ${text}`;
  return { message: `${prefixOf(failure.code)}${placed}`, failure };
}

/** The end of a task whose run ended without an undo. */
export function abandonedTask(text: string): Required<TaskFailure> {
  return taskFailure({ code: "ImportAbandoned" }, text);
}

/** The message of a failed task without the code, which the caller gets beside it. */
export function textOfTask(message: string, code: string): string {
  const prefix = prefixOf(code);
  return message.startsWith(prefix) ? message.slice(prefix.length) : message;
}

function prefixOf(code: string): string {
  return `Error: ${code}: `;
}
