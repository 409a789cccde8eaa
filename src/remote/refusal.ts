import {
  IMPORT_FAILURES,
  ImportError,
  UnlistedFailure,
  type ImportFailureCode,
} from "../domain/import-failure.ts";

/** The facts of a request that matter for its refusal. */
export interface Asked {
  readonly url: string;
  readonly hasToken: boolean;
}

/** The members of the error in an answer. An answer of a proxy has none of them. */
interface ErrorDocument {
  readonly message?: string;
  readonly failure?: string;
  readonly hint?: string;
  readonly step?: string;
  readonly store?: string;
}

// For answers without a code of the failure table: refusals of HTTP alone, and those of a proxy.
const CODES: Readonly<Record<number, ImportFailureCode>> = {
  400: "BadRequest",
  401: "AccessDenied",
  403: "AccessDenied",
  404: "ImageNotFound",
  409: "ImageConflict",
  413: "ImageTooLarge",
  415: "FormatNotAllowed",
  423: "StagingBusy",
};

/** The failure in an answer of the API: the one that a command on a host of the service reports. */
export function refusalOf(
  status: number,
  text: string,
  asked: Asked,
): ImportError | UnlistedFailure {
  return failureOf(errorIn(text), status, asked);
}

/** The failure in a document of the API. */
export function failureOf(
  { message, failure, hint, step, store }: ErrorDocument,
  status: number,
  { url, hasToken }: Asked,
): ImportError | UnlistedFailure {
  const place = {
    ...(step === undefined ? {} : { step }),
    ...(store === undefined ? {} : { store }),
  };
  const said = message ?? `The API at ${url} answered with status ${String(status)}`;
  if (failure !== undefined) {
    return isListed(failure)
      ? new ImportError(failure, said, { ...place, ...(hint === undefined ? {} : { hint }) })
      : new UnlistedFailure(failure, said, { ...place, ...(hint === undefined ? {} : { hint }) });
  }
  if (status === 404 && message === undefined) {
    // A 404 of the API has a message.
    return new ImportError("BadConfiguration", said, {
      hint: `Is this the address of an Image Import API? ${WAY_TO_THE_ADDRESS}`,
    });
  }
  // A 500 with a message comes from the API: the same request would fail again. A 500 without one
  // may come from a proxy whose server restarts: it is `ApiUnavailable`, below.
  if (status === 500 && message !== undefined) {
    return new UnlistedFailure("InternalError", said, { hint: hint ?? FAULT_OF_THE_API });
  }
  const code =
    CODES[status] ??
    ([408, 429].includes(status) || status >= 500 ? "ApiUnavailable" : "BadRequest");
  // The hint of the API names headers, and the user of a command needs the names of its options.
  const wayOut = status === 401 ? howToIdentify(hasToken) : hint;
  return new ImportError(code, said, wayOut === undefined ? {} : { hint: wayOut });
}

const FAULT_OF_THE_API = "This is a bug of the API, or a fault that it did not foresee.";

/** The hint about an address at which another server answers. */
export const WAY_TO_THE_ADDRESS = "Check the address of `--api` or IMAGE_IMPORT_API.";

function howToIdentify(hasToken: boolean): string {
  return hasToken
    ? "The token is not valid, or has expired: name another one with IMAGE_IMPORT_API_TOKEN, OS_TOKEN or `--api-token`."
    : "Name a token with IMAGE_IMPORT_API_TOKEN, OS_TOKEN or `--api-token`; `image-import token` makes one for an API with a file of tokens.";
}

function isListed(code: string): code is ImportFailureCode {
  return Object.hasOwn(IMPORT_FAILURES, code);
}

/**
 * Reads the error in an answer; empty for an answer of a proxy, of which only the status counts.
 */
function errorIn(text: string): ErrorDocument {
  try {
    const { error } = JSON.parse(text) as { readonly error?: unknown };
    if (typeof error !== "object" || error === null) return {};
    // In an answer of another server, these members may have other types.
    const texts = Object.entries(error).filter(([, value]) => typeof value === "string");
    return Object.fromEntries(texts);
  } catch {
    return {};
  }
}
