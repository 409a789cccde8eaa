import { startLimited } from "#dist/transforms/limited-program.js";

// Starts a limited program, and kills itself.

const { command, args, limits } = JSON.parse(process.argv[2] ?? "");
await startLimited({ command, arguments: args, limits, signal: new AbortController().signal });
process.kill(process.pid, "SIGKILL");
