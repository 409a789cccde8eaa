import { placeText, type FailureDetails } from "./failure-details.ts";

/** The end of a task that failed. A release by a workflow of 0.1.0 has the message alone. */
export interface TaskFailure extends Partial<FailureDetails> {
  /** Glance's message: `Error: <code>: <place>: <text>`. */
  readonly message: string;
}

/** The end of a task with this failure. */
export function taskFailure(details: FailureDetails, text: string): TaskFailure & FailureDetails {
  const place = placeText(details);
  return {
    ...details,
    message: `${prefixOf(details.code)}${place === "" ? "" : `${place}: `}${text}`,
  };
}

/** The end of a task whose run ended without an undo. */
export function abandonedTask(text: string): TaskFailure & FailureDetails {
  return taskFailure({ code: "ImportAbandoned" }, text);
}

/** The message of a failed task without its code, which the caller gets beside it. */
export function textOfTask({ code, message }: Pick<TaskFailure, "code" | "message">): string {
  const prefix = code === undefined ? "" : prefixOf(code);
  return message.startsWith(prefix) ? message.slice(prefix.length) : message;
}

function prefixOf(code: string): string {
  return `Error: ${code}: `;
}
