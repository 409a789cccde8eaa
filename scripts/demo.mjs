import { runWithTemporal } from "./run-with-temporal.mjs";

await runWithTemporal(() => import("#dist/stack/demo.js"));
