import { once } from "node:events";
import { createReadStream, statSync } from "node:fs";
import { request } from "node:http";

// Sends a file with one PUT, and prints the seconds that this took, and those from the last byte to
// the answer. Runs as a process of its own: the Temporal SDK has run workers in that of the
// benchmark, and a socket there takes bytes at a third of the rate.

const [, , url = "", file = ""] = process.argv;
const startedAtMs = performance.now();
const put = request(url, {
  method: "PUT",
  headers: { "content-type": "application/octet-stream", "content-length": statSync(file).size },
});
const answered = once(put, "response");
createReadStream(file, { highWaterMark: 1024 * 1024 }).pipe(put);
await once(put, "finish");
const sentAtMs = performance.now();
const [answer] = /** @type {[import("node:http").IncomingMessage]} */ (await answered);
answer.resume();
if (answer.statusCode !== 204) throw new Error(`PUT answers ${String(answer.statusCode)}`);
const endedAtMs = performance.now();
const seconds = (endedAtMs - startedAtMs) / 1000;
const afterLastByteSeconds = (endedAtMs - sentAtMs) / 1000;
process.stdout.write(JSON.stringify({ seconds, afterLastByteSeconds }));
