import type { IdentitySettings } from "../config/api-settings.ts";
import { callerOf } from "./caller.ts";
import type { Identity } from "./identity.ts";

/** Opens the way that is configured. @throws ImportError `BadConfiguration` */
export async function openIdentity(settings: IdentitySettings): Promise<Identity> {
  switch (settings.mode) {
    case "none":
      return NOBODY_ASKED;
    case "tokens": {
      const { TokenFile } = await import("./token-file.ts");
      return TokenFile.open(settings.file);
    }
    case "keystone": {
      const { Keystone } = await import("./keystone.ts");
      return Keystone.open(settings);
    }
  }
}

const ADMINISTRATOR = callerOf(null, null, ["admin", "service"]);

/** Mode `none`: every caller is the administrator. */
const NOBODY_ASKED: Identity = {
  challenge: "",
  identify: async () => ADMINISTRATOR,
  close: async () => undefined,
};
