import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";

// Run as a process of its own: serves one file on 127.0.0.1, with ranges and a strong validator.
// `node origin.mjs PORT FILE`; it says "ready" on stdout.

const [port, file] = process.argv.slice(2);
const { size, mtimeMs } = statSync(file);
const etag = `"${size}-${mtimeMs}"`;

const server = createServer((request, response) => {
  const [, from] = /^bytes=(\d+)-$/.exec(request.headers.range ?? "") ?? [];
  const start = from === undefined ? 0 : Number(from);
  const range = from === undefined ? {} : { "content-range": `bytes ${start}-${size - 1}/${size}` };
  response.writeHead(from === undefined ? 200 : 206, {
    "content-length": size - start,
    etag,
    ...range,
  });
  createReadStream(file, { start, highWaterMark: 1024 * 1024 }).pipe(response);
});
server.listen(Number(port), "127.0.0.1", () => process.stdout.write("ready\n"));
