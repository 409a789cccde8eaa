import { ImportError } from "./import-failure.ts";

/** The states of a request to import. Glance's words; a cancelled import is a `failure`. */
export const TASK_STATUSES = ["pending", "processing", "success", "failure"] as const;

/** The state of a request to import; `success` and `failure` are the ends. */
export type TaskStatus = (typeof TASK_STATUSES)[number];

const LEGAL_CHANGES: Readonly<Record<TaskStatus, readonly TaskStatus[]>> = {
  pending: ["processing", "failure"],
  processing: ["success", "failure"],
  success: [],
  failure: [],
};

/**
 * The status a task has after a change, if the change is legal.
 *
 * @throws ImportError `IllegalTransition` naming both statuses
 */
export function nextTaskStatus(from: TaskStatus, to: TaskStatus): TaskStatus {
  if (LEGAL_CHANGES[from].includes(to)) return to;
  throw new ImportError("IllegalTransition", `Cannot change a task from "${from}" to "${to}"`);
}

/** The statuses from which a task may become `to`. */
export function taskStatusesBefore(to: TaskStatus): TaskStatus[] {
  return TASK_STATUSES.filter((from) => LEGAL_CHANGES[from].includes(to));
}

/** Glance's type of the tasks that import an image. */
export const TASK_TYPE = "api_image_import";
