import { runWithTemporal } from "./run-with-temporal.mjs";

// `npm start -- ARGUMENTS` is `image-import dev ARGUMENTS`.
process.argv.splice(2, 0, "dev");
await runWithTemporal(() => import("#dist/cli/main.js"));
