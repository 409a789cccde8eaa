// Imports one disk image, shows its progress, and prints the places of its copies. While
// `npm start` runs, in another terminal:
//
//   eval "$(npx image-import env)"
//   node examples/import-a-file.mjs disk.qcow2
import { basename } from "node:path";
import { detectFormat, ImageImportClient, ImportError, readConfig } from "image-import";

const [file] = process.argv.slice(2);
const { DATABASE_URL, IMAGE_IMPORT_CONFIG } = process.env;
if (file === undefined || DATABASE_URL === undefined || IMAGE_IMPORT_CONFIG === undefined) {
  process.stderr.write(`Name a file, and set the variables that \`image-import env\` prints.\n`);
  process.exit(2);
}

const client = await ImageImportClient.connect({
  databaseUrl: DATABASE_URL,
  // The staging area and the stores of this host. A client that only starts, steers and follows
  // imports does not need it.
  config: readConfig(IMAGE_IMPORT_CONFIG),
});
try {
  await importFile(client, file);
} catch (error) {
  // Every failure has a stable code, and a hint with the way out.
  if (!(error instanceof ImportError)) throw error;
  process.stderr.write(`${error.code}: ${error.message}\n${error.hint}\n`);
  process.exitCode = 1;
} finally {
  await client.close();
}

/**
 * @param {ImageImportClient} client
 * @param {string} path
 */
async function importFile({ files, images, imports }, path) {
  const { id } = await images.create({
    name: basename(path),
    diskFormat: await detectFormat(path),
    containerFormat: "bare",
  });
  await files.stage(id, path);

  // From here on the import continues without this program.
  const { run_id } = await imports.start(id);
  for await (const { phase, stores } of imports.watch(id)) {
    const states = Object.entries(stores).map(([store, { state }]) => `${store} ${state}`);
    process.stderr.write(`${[phase, ...states].join(", ")}\n`);
  }

  // Throws the failure of the import.
  const { size, os_hash_algo, os_hash_value } = await imports.wait(id, run_id);
  const { locations } = await images.show(id);
  process.stdout.write(`${id}: ${String(size)} bytes, ${os_hash_algo} ${os_hash_value}\n`);
  for (const { store, url } of locations) process.stdout.write(`${store}: ${url}\n`);
}
