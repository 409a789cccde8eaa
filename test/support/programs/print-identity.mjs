import { thisProcess } from "#dist/processes/process-identity.js";

// Prints the identity of its process, and lives until it is killed.

process.stdout.write(`${JSON.stringify(await thisProcess())}\n`);
setInterval(() => undefined, 1000);
