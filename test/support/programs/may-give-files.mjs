import { mayGiveFilesTo } from "#dist/stores/file-owner.js";

// Prints as JSON whether this process may give files to an owner.

const owner = JSON.parse(process.argv[2] ?? "");
process.stdout.write(JSON.stringify(await mayGiveFilesTo(owner)));
