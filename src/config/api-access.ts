import { ImportError } from "../domain/import-failure.ts";
import { setting } from "./environment.ts";

/** The options of the command line that name an API. */
export interface ApiOptions {
  /** Default: `IMAGE_IMPORT_API`, else none: the service is found on this host. */
  readonly api?: string | undefined;
  /** Default: `IMAGE_IMPORT_API_TOKEN`, else `OS_TOKEN`. */
  readonly apiToken?: string | undefined;
}

/** The address of an API, and the token to send there. */
export interface ApiAccess {
  /** Its address, without a slash at the end. */
  readonly url: string;
  /** Sent as `X-Auth-Token`; never shown. */
  readonly token: string | undefined;
}

/**
 * The API that commands use instead of the service on this host; undefined if none is named.
 *
 * @throws ImportError `BadConfiguration`
 */
export function apiAccess(
  options: ApiOptions,
  env: NodeJS.ProcessEnv = process.env,
): ApiAccess | undefined {
  const given = options.api ?? setting(env, "IMAGE_IMPORT_API");
  if (given === undefined) return undefined;
  const token =
    options.apiToken ?? setting(env, "IMAGE_IMPORT_API_TOKEN") ?? setting(env, "OS_TOKEN");
  return { url: addressOf(given), token: token === undefined ? undefined : tokenOf(token) };
}

/** A token that was read from a file often has the end of its line. */
function tokenOf(given: string): string | undefined {
  const token = given.trim();
  if (/[^\x21-\x7e]/.test(token)) {
    throw new ImportError(
      "BadConfiguration",
      "Cannot use the token of the API: it has a space, a line break, or a character that no token has",
      { hint: "Name the token alone, with IMAGE_IMPORT_API_TOKEN, OS_TOKEN or `--api-token`." },
    );
  }
  return token === "" ? undefined : token;
}

function addressOf(given: string): string {
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw notAnAddress(
      `"${given}" is not an http or https URL`,
      "Name it like http://127.0.0.1:9292.",
    );
  }
  if (url.username !== "" || url.password !== "") {
    // A password in an address is shown by many programs.
    throw notAnAddress("it has a user or a password", "Name a token with IMAGE_IMPORT_API_TOKEN.");
  }
  // Catalogues of OpenStack name the address with the version.
  return `${url.origin}${url.pathname.replace(/\/+$/, "").replace(/\/v2(\.\d+)?$/, "")}`;
}

function notAnAddress(reason: string, hint: string): ImportError {
  return new ImportError("BadConfiguration", `Cannot use the address of the API: ${reason}`, {
    hint,
  });
}
