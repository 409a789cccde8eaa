import { runWithTemporal } from "./run-with-temporal.mjs";

await runWithTemporal(() => import("./killed-uploads/main.mjs"));
