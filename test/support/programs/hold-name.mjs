import { tryToLockName } from "#dist/processes/name-lock.js";

// Locks a name, and lives until it is killed.

await tryToLockName(process.argv[2] ?? "");
process.stdout.write("locked");
setInterval(() => undefined, 1000);
