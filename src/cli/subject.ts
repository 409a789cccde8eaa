/** The import that a command is about, as far as it is known. */
export interface Subject {
  readonly image_id?: string | undefined;
  readonly run_id?: string | undefined;
  readonly task_id?: string | undefined;
}

const SUBJECTS = new WeakMap<object, Subject>();

/** Remembers the import that a failure is about. */
export function nameSubject(failure: unknown, subject: Subject): void {
  if (typeof failure === "object" && failure !== null) SUBJECTS.set(failure, subject);
}

/** The import that a failure is about; empty if it is not known. */
export function subjectOf(failure: unknown): Subject {
  if (typeof failure !== "object" || failure === null) return {};
  return SUBJECTS.get(failure) ?? {};
}
