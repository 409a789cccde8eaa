import type { InjectMetadataSettings } from "../domain/transform-settings.ts";
import type { Transform } from "./transform.ts";

/** Sets the configured properties on every image, except for users with certain roles. */
export function injectMetadata({ properties, ignoreUserRoles }: InjectMetadataSettings): Transform {
  return {
    name: "inject_metadata",
    leavesBytes: true,
    async run({ image }) {
      if (image.roles.some((role) => ignoreUserRoles.includes(role))) return undefined;
      return { hasProduct: false, properties };
    },
  };
}
