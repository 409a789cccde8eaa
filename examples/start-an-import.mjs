// Starts the import of an upload and waits for its end. While `npm start` runs, in another
// terminal:
//
//   eval "$(npx image-import env)"
//   node examples/start-an-import.mjs <image-id>
import { ImageImportClient } from "image-import";

const [imageId = ""] = process.argv.slice(2);
const client = await ImageImportClient.connect();
const { run_id } = await client.imports.start(imageId, { stores: ["local"] });
for await (const { phase } of client.imports.watch(imageId)) process.stderr.write(`${phase}\n`);
const { size, os_hash_value } = await client.imports.wait(imageId, run_id);
process.stdout.write(`${String(size)} bytes, sha512 ${os_hash_value}\n`);
await client.close();
