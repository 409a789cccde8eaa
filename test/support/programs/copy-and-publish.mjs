import { open } from "node:fs/promises";
import { S3Store } from "#dist/stores/s3-store.js";
import { copySourceOf } from "#dist/stores/store.js";

// Copies a file into a bucket, and publishes the copy.

const { options, path, sizeBytes, key, part, mayResume } = JSON.parse(process.argv[2] ?? "");
const copy = await new S3Store(options).copy({
  source: copySourceOf(await open(path), path),
  sizeBytes,
  crc32: undefined,
  key,
  part,
  mayResume,
  signal: new AbortController().signal,
  report: () => undefined,
});
await copy.publish();
