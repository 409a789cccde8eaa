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

/** The error of an answer, as far as it was sent. */
interface ErrorDocument {
  readonly message?: string;
  readonly failure?: string;
  readonly hint?: string;
  readonly step?: string;
  readonly store?: string;
}

// For what only HTTP refuses, and for what a proxy answers.
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

/** The failure that an answer of the API is about: the same as on the host of the service. */
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
    // The API says what it does not find.
    return new ImportError("BadConfiguration", said, {
      hint: `Is this the address of an Image Import API? ${WAY_TO_THE_ADDRESS}`,
    });
  }
  const code =
    CODES[status] ??
    ([408, 429].includes(status) || status >= 500 ? "ApiUnavailable" : "BadRequest");
  // The API speaks of headers, which are not what a user of the command line names.
  const wayOut = status === 401 ? howToIdentify(hasToken) : hint;
  return new ImportError(code, said, wayOut === undefined ? {} : { hint: wayOut });
}

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

/** A proxy answers with something else: then nothing is known but the status. */
function errorIn(text: string): ErrorDocument {
  try {
    const { error } = JSON.parse(text) as { readonly error?: unknown };
    if (typeof error !== "object" || error === null) return {};
    // Another server may have other things under these names.
    const texts = Object.entries(error).filter(([, value]) => typeof value === "string");
    return Object.fromEntries(texts);
  } catch {
    return {};
  }
}
