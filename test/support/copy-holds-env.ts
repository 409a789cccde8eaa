import { join } from "node:path";

const PRELOADED = new URL("programs/hold-copies.mjs", import.meta.url);

/** The directory of the holds of a service. */
export function holdsDirectory(dataDir: string): string {
  return join(dataDir, "holds");
}

/** Variables of the programs of a service whose copies a test may hold. */
export function copyHoldsEnv(dataDir: string): NodeJS.ProcessEnv {
  const options = [process.env["NODE_OPTIONS"], `--import=${PRELOADED.href}`];
  return {
    NODE_OPTIONS: options.filter((option) => option !== undefined).join(" "),
    COPY_HOLDS: holdsDirectory(dataDir),
  };
}
