import { join } from "node:path";
import { PostgresServer } from "#dist/stack/postgres-server.js";
import { waitUntilReady } from "#dist/stack/program.js";

// Starts a server as the current user, prints that user and the server's reply, and stops it.

const { directory, port } = JSON.parse(process.argv[2] ?? "");
const logFile = join(directory, "..", "postgres.log");
const server = new PostgresServer({ directory, port, logFile });
await server.prepare();
const program = server.start();
await waitUntilReady(program, () => server.isReady());
await program.stop();
process.stdout.write(`user ${process.getuid?.() ?? "?"}, ${await program.ended}`);
