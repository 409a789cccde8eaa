// Gets a Temporal CLI with the scripts of a clone, and prints its path.

const [, , script = "", server] = process.argv;
/** @type {typeof import("../../../scripts/temporal-cli.mjs")} */
const { ensureTemporalCli } = await import(script);
process.stdout.write(await ensureTemporalCli({ server }));
