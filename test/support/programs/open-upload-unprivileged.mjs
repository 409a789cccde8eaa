import { openUpload } from "#dist/client/open-upload.js";

// Opens an upload as an ordinary user, and prints the failure as JSON.

const [, , path = ""] = process.argv;
process.setgid?.(65_534);
process.setuid?.(65_534);
const failure = await openUpload(path).catch((/** @type {unknown} */ error) => error);
const { code, message } = /** @type {Error & { readonly code?: unknown }} */ (failure);
process.stdout.write(JSON.stringify({ code, message }));
