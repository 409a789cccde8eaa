import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { pipeline } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

// Run as a process of its own: serves one file on 127.0.0.1, with ranges and a strong validator.
// `node origin.mjs PORT FILE [BYTES_PER_SECOND]`, for each connection; it writes "ready" to stdout.

const [port, file = "", rate] = process.argv.slice(2);
const { size, mtimeMs } = statSync(file);
const etag = `"${size}-${mtimeMs}"`;

const server = createServer((request, response) => {
  const [, from, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const start = Number(from ?? 0);
  const end = last ? Math.min(Number(last), size - 1) : size - 1;
  const range = from === undefined ? {} : { "content-range": `bytes ${start}-${end}/${size}` };
  response.writeHead(from === undefined ? 200 : 206, {
    "accept-ranges": "bytes",
    "content-length": end - start + 1,
    etag,
    ...range,
  });
  const bytes = createReadStream(file, { start, end, highWaterMark: 1024 * 1024 });
  // A client that disconnects is not a failure.
  pipeline(rate === undefined ? bytes : paced(bytes), response, () => undefined);
});
server.listen(Number(port), "127.0.0.1", () => process.stdout.write("ready\n"));

/** @param {AsyncIterable<Buffer>} bytes */
async function* paced(bytes) {
  for await (const chunk of bytes) {
    yield chunk;
    await sleep((chunk.length / Number(rate)) * 1000);
  }
}
