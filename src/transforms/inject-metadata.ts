import type { Transform } from "./transform.ts";

/** What to inject. */
export interface InjectMetadataSettings {
  readonly properties: Readonly<Record<string, string>>;
  /** Who has one of these roles sets properties without help. */
  readonly ignoreUserRoles: readonly string[];
}

/** Sets configured properties on every image, except on those of users with certain roles. */
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
