/**
 * True if text may have colours: on a terminal that shows them, unless `NO_COLOR` is set;
 * `FORCE_COLOR` decides before both.
 */
export function wantsColours(isTerminal: boolean, env: NodeJS.ProcessEnv = process.env): boolean {
  const { FORCE_COLOR: forced, NO_COLOR: refused, TERM: terminal } = env;
  if (forced !== undefined) return forced !== "0" && forced !== "false";
  if (refused !== undefined && refused !== "") return false;
  return isTerminal && terminal !== "dumb";
}

/** True if the terminal can write a line again. */
export function canRewrite(isTerminal: boolean, env: NodeJS.ProcessEnv = process.env): boolean {
  return isTerminal && env["TERM"] !== "dumb";
}

/**
 * Columns or rows of a terminal; undefined if it does not report them. The terminal of a container
 * or a build job may have a size of 0.
 */
export function reported(size: number | undefined): number | undefined {
  return size === 0 ? undefined : size;
}
