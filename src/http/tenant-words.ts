import { UnansweredStart } from "../client/unanswered-start.ts";
import { taskFailure } from "../domain/task-failure.ts";
import { isImportFailureCode } from "../domain/import-failure.ts";
import { readFailureDetails } from "../domain/failure-details.ts";
import { redact } from "../domain/redact.ts";
import { STATUSES } from "./failure-statuses.ts";

// Administrators read a failure as it is. Other callers do not learn the hosts, paths and
// statements of the service: for them its own failures are plain, and its log has the cause.

const HIDDEN = "[hidden]";
// An address of the API, such as /v2/images, stands in no failure of the table.
const PATH = /(?<=^|[\s"'`(=])(?:file:\/\/)?\/[^\s"'`(),;]+/g;
const ADDRESS =
  /(?<![\w./-])(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]{2,}\]|::1)(?::\d+)?(?![\w-])/gi;
// Error codes of the system, each followed by a host.
const HOST = /\b(ENOTFOUND|EAI_AGAIN|ECONN[A-Z]+|EHOST[A-Z]+|ENET[A-Z]+|ETIMEDOUT)\s+[^\s"',;)]+/g;

const PROCESS = /\bprocess \d+ on node "[^"]*"/g;

/** The members of documents that name an operator of the service. */
const OPERATORS = ["cancelled_by"];

/** Failures with a status of 500 or more whose text is about the request. */
const ABOUT_THE_REQUEST = ["NotAcceptedYet", "SourceUnavailable", "ImportDeadlineExceeded"];

/** True for a failure of the service itself, also one that the table does not list. */
function isOfService(code: string): boolean {
  if (!isImportFailureCode(code)) return true;
  return STATUSES[code] >= 500 && !ABOUT_THE_REQUEST.includes(code);
}

/** A failure as everyone may read it. */
export interface PlainFailure {
  readonly message: string;
  readonly hint: string;
}

/** The words for a failure with a code of the table or of a bug. */
export function plainFailure(
  error: Error & { readonly code: string; readonly hint: string },
  requestId: string,
): PlainFailure {
  if (error instanceof UnansweredStart && error.run === undefined) {
    return { message: "It is not known whether the import was started.", hint: error.hint };
  }
  if (!isOfService(error.code)) {
    return { message: plainText(error.message), hint: plainText(error.hint) };
  }
  return {
    message: "A part of the service fails.",
    hint: `Send the request again in a moment. The log of the service has the cause, under ${requestId}.`,
  };
}

/** A text of a failure without places of the service and without secrets. */
export function plainText(text: string): string {
  return redact(text, [])
    .replace(PATH, HIDDEN)
    .replace(ADDRESS, HIDDEN)
    .replace(HOST, `$1 ${HIDDEN}`)
    .replace(PROCESS, "another process");
}

/** A report, status, task or history of an import, as everyone may read it. */
export function plainDocument<Document>(document: Document): Document {
  return plainValue(document, "") as Document;
}

function plainValue(value: unknown, name: string): unknown {
  if (Array.isArray(value)) return value.map((each) => plainValue(each, name));
  if (typeof value === "string") return plainMember(value, name);
  // The caller's own words.
  if (typeof value !== "object" || value === null || name === "import_req") return value;
  const members = value as Readonly<Record<string, unknown>>;
  const shown = Object.entries({ ...members, ...plainEnd(members) }).filter(
    ([each]) => !OPERATORS.includes(each),
  );
  return Object.fromEntries(
    shown.map(([each, member]) => [
      each,
      name === "stores" && isRecord(member) ? plainCopy(member) : plainValue(member, each),
    ]),
  );
}

function plainMember(text: string, name: string): string {
  switch (name) {
    case "message":
    case "last_failure":
    case "hint":
      return plainText(text);
    case "path":
    case "url":
      return "";
    case "uri":
    case "source":
      return text.startsWith("file:") ? "" : redact(text, []);
    default:
      return text;
  }
}

/** The message of an import that failed for a reason of the service. */
function plainEnd({ message, failure }: Readonly<Record<string, unknown>>): object {
  if (typeof message !== "string" || !isRecord(failure)) return {};
  const { code, step, store } = readFailureDetails(failure, String(failure["code"]));
  if (!isOfService(code)) return {};
  const place = {
    ...(step === undefined ? {} : { step }),
    ...(store === undefined ? {} : { store }),
  };
  return taskFailure({ code, ...place }, "a part of the service failed; its log has the cause");
}

/** A copy without the message of its store, which is that of a server or a disk. */
function plainCopy(progress: Readonly<Record<string, unknown>>): object {
  const { last_failure: failure } = progress;
  const plain = failure === undefined ? {} : { last_failure: "The store cannot be written now" };
  return { ...(plainValue(progress, "") as object), ...plain };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
