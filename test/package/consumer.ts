// The program of a user who has installed the package: it imports the file that it is given.
import { ImageImportClient, ImportError, readConfig, type ImportStatus } from "image-import";
import type { Transform } from "image-import/transform";

/** A transform of the user, to try its types. */
export const noTransform: Transform = {
  name: "none",
  run: async ({ sizeBytes }) => ({ hasProduct: false, properties: { size: String(sizeBytes) } }),
};

const [file = ""] = process.argv.slice(2);
const { DATABASE_URL, IMAGE_IMPORT_CONFIG, TEMPORAL_ADDRESS } = process.env;
const client = await ImageImportClient.connect({
  temporal: { address: TEMPORAL_ADDRESS ?? "", namespace: "default" },
  databaseUrl: DATABASE_URL,
  config: readConfig(IMAGE_IMPORT_CONFIG ?? ""),
});
try {
  const { id } = await client.images.create({ diskFormat: "raw", containerFormat: "bare" });
  await client.files.stage(id, file);
  const { run_id } = await client.imports.start(id);
  const phases: ImportStatus["phase"][] = [];
  for await (const { phase } of client.imports.watch(id)) phases.push(phase);
  const { status, size } = await client.imports.wait(id, run_id);
  process.stdout.write(JSON.stringify({ id, status, size, end: phases.at(-1) }));
} catch (error) {
  if (!(error instanceof ImportError)) throw error;
  process.stderr.write(`${error.code}: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  await client.close();
}
