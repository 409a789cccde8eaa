import { readdirSync } from "node:fs";
import { join } from "node:path";
import { ListMultipartUploadsCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import postgres from "postgres";
import type { S3Server } from "./s3-server.ts";

/**
 * Everything that exists of an image, of all imports: both what an import may leave and what it
 * must not.
 */
export interface ImageTraces {
  /** Status of the image; null when there is no such image. */
  readonly image: string | null;
  readonly isClaimed: boolean;
  /** Store and status of each location. */
  readonly locations: readonly string[];
  /** Store and state of each lease. */
  readonly leases: readonly string[];
  /** Names of files in the staging area, `@` for the image's id. */
  readonly staging: readonly string[];
  /** The same of each store. */
  readonly stores: Readonly<Record<string, readonly string[]>>;
}

/** Everything that exists of an image in a bucket, of all imports. */
export interface BucketTraces {
  /** Keys of objects, `@` for the image's id. */
  readonly objects: readonly string[];
  /** Keys of uploads that are neither complete nor aborted. */
  readonly uploads: readonly string[];
}

/**
 * Looks past the service: into its database, and into `staging/` and `stores/` under its data
 * directory.
 */
export async function imageTraces(
  databaseUrl: string,
  dataDir: string,
  imageId: string,
): Promise<ImageTraces> {
  const sql = postgres(databaseUrl, { max: 1 });
  try {
    const [image] = await sql<{ status: string; claim_task_id: string | null }[]>`
      SELECT status, claim_task_id FROM images WHERE id = ${imageId}`;
    const locations = await sql<{ line: string }[]>`
      SELECT store || ' ' || status AS line FROM image_locations WHERE image_id = ${imageId} ORDER BY 1`;
    const leases = await sql<{ line: string }[]>`
      SELECT substr(place, 7) || ' ' || state AS line FROM leases
      WHERE image_id = ${imageId} AND place LIKE 'store/%' ORDER BY 1`;
    return {
      image: image?.status ?? null,
      isClaimed: image?.claim_task_id != null,
      locations: locations.map(({ line }) => line),
      leases: leases.map(({ line }) => line),
      staging: namesOf(join(dataDir, "staging"), imageId),
      stores: storesOf(join(dataDir, "stores"), imageId),
    };
  } finally {
    await sql.end();
  }
}

/** Looks past the service: into a bucket of the server itself. */
export async function bucketTraces(
  { client }: S3Server,
  bucket: string,
  imageId: string,
): Promise<BucketTraces> {
  const [objects, uploads] = await Promise.all([
    client.send(new ListObjectsV2Command({ Bucket: bucket })),
    client.send(new ListMultipartUploadsCommand({ Bucket: bucket })),
  ]);
  const keysOf = (listed: readonly { readonly Key?: string | undefined }[] = []): string[] =>
    namesIn(
      listed.map(({ Key = "" }) => Key),
      imageId,
    );
  return { objects: keysOf(objects.Contents), uploads: keysOf(uploads.Uploads) };
}

function storesOf(directory: string, imageId: string): Record<string, string[]> {
  const names = readdirSync(directory).sort();
  return Object.fromEntries(names.map((name) => [name, namesOf(join(directory, name), imageId)]));
}

function namesOf(directory: string, imageId: string): string[] {
  return namesIn(readdirSync(directory), imageId);
}

function namesIn(names: readonly string[], imageId: string): string[] {
  return names
    .filter((name) => name.includes(imageId))
    .map((name) => name.replace(imageId, "@"))
    .sort();
}
