import { runWithTemporal } from "./run-with-temporal.mjs";

await runWithTemporal(() => import("./bench/main.mjs"));
