import type { IdentitySettings } from "../config/api-settings.ts";
import { callerOf } from "./caller.ts";
import { forbidden } from "./http-failure.ts";
import type { Identity } from "./identity.ts";
import { isLoopbackHost } from "./loopback.ts";

/**
 * Opens the configured way of identification.
 *
 * @param report - takes lines for the operator. Default: they are dropped
 * @throws ImportError `BadConfiguration`
 */
export async function openIdentity(
  settings: IdentitySettings,
  report: (line: string) => void = () => undefined,
): Promise<Identity> {
  switch (settings.mode) {
    case "none":
      return anyone(settings);
    case "tokens": {
      const { TokenFile } = await import("./token-file.ts");
      return TokenFile.open(settings.file, report);
    }
    case "keystone": {
      const { Keystone } = await import("./keystone.ts");
      return Keystone.open(settings);
    }
  }
}

const ADMINISTRATOR = callerOf(null, null, ["admin", "service"]);

/**
 * Mode `none`: every caller is the administrator, except foreign pages in a browser of this host.
 * Their requests have an origin, or a host name that was made to lead here (DNS rebinding).
 */
function anyone({ allowAnyone, origins }: Extract<IdentitySettings, { mode: "none" }>): Identity {
  return {
    challenge: "",
    identify: async ({ headers }) => {
      const { host = "", origin } = headers;
      const isForeign = !allowAnyone && !isLoopbackHost(host.replace(/:\d*$/, ""));
      if (isForeign) {
        throw forbidden(`This API serves its own host alone, and was called as "${host}".`, {
          hint: "Call it by 127.0.0.1 or localhost, or choose another `api.identity`.",
        });
      }
      if (origin !== undefined && !isAllowed(origin, host, origins)) {
        throw forbidden(`Pages of ${origin} may not use this API.`, {
          hint: "`api.allowed_origins` names the origins that may.",
        });
      }
      return ADMINISTRATOR;
    },
    close: async () => undefined,
  };
}

function isAllowed(origin: string, host: string, origins: readonly string[]): boolean {
  return origins.includes("*") || origins.includes(origin) || origin === `http://${host}`;
}
