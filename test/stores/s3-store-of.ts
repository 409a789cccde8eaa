import { MIN_PART_BYTES } from "../../src/stores/part-plan.ts";
import { S3Store, type S3StoreOptions } from "../../src/stores/s3-store.ts";
import type { S3Server } from "../support/s3-server.ts";

/** A store in a new bucket of a server, which sends the smallest parts that there are: 5 MiB. */
export async function s3StoreOf(
  server: S3Server,
  options: Partial<S3StoreOptions> = {},
): Promise<S3Store> {
  const bucket = options.bucket ?? (await server.makeBucket());
  return new S3Store({ ...s3OptionsOf(server, bucket), ...options });
}

/** The options of a store in a bucket of a server; they survive JSON. */
export function s3OptionsOf(server: S3Server, bucket: string): S3StoreOptions {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  return {
    name: "objects",
    bucket,
    region,
    endpoint,
    pathStyle: true,
    checksums: "when_supported",
    credentials: { accessKeyId, secretAccessKey },
    partSizeBytes: MIN_PART_BYTES,
  };
}
