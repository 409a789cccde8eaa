import { prepare } from "./prepare.mjs";
import { ensureTemporalCli } from "./temporal-cli.mjs";

await prepare();
process.env.TEMPORAL_CLI = await ensureTemporalCli();
await import("./bench/main.mjs");
