import { lstat } from "node:fs/promises";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { isDiskFormat, type DiskFormat } from "../domain/disk-format.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { mistakeInPropertyName, mistakeInPropertyValue } from "../domain/image-fields.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Transform, TransformResult, TransformWork } from "./transform.ts";

/** What a transform made, checked, and with every default in its place. */
export interface Outcome {
  readonly hasProduct: boolean;
  readonly diskFormat: DiskFormat;
  readonly properties: Readonly<Record<string, string>>;
}

/**
 * Runs a transform, which may be a user's own, and believes nothing that it says.
 *
 * @throws ImportError `TransformFailed` naming the transform and the reason, `NoSpace`; retried:
 *   `TransformUnavailable`, when what it throws is marked as `retryable`. An `ImportError` of its
 *   own passes through.
 */
export async function runTransform(transform: Transform, work: TransformWork): Promise<Outcome> {
  const result = await resultOf(transform, work);
  const diskFormat = result?.diskFormat ?? work.image.diskFormat;
  const outcome = {
    hasProduct: result?.hasProduct ?? false,
    diskFormat: diskFormat as DiskFormat,
    properties: result?.properties ?? {},
  };
  const mistake = mistakeIn(outcome) ?? (await mistakeInProduct(outcome, work));
  if (mistake !== undefined) throw failed(transform, mistake);
  return outcome;
}

async function resultOf(
  transform: Transform,
  work: TransformWork,
): Promise<TransformResult | undefined> {
  try {
    return await transform.run(work);
  } catch (cause) {
    // Stopped because it was told to: its own words for that are of no interest.
    work.signal.throwIfAborted();
    if (cause instanceof ImportError) throw cause;
    if (hasErrorCode(cause, "ENOSPC", "EDQUOT")) {
      throw systemFailure(cause, "the staging area", "StagingUnavailable");
    }
    throw failed(transform, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function failed({ name }: Transform, reason: string, cause?: unknown): ImportError {
  const isRetryable =
    typeof cause === "object" && cause !== null && "retryable" in cause && cause.retryable === true;
  const code = isRetryable ? "TransformUnavailable" : "TransformFailed";
  return new ImportError(code, `The transform "${name}" failed: ${reason}`, { cause });
}

function mistakeIn({ hasProduct, diskFormat, properties }: Outcome): string | undefined {
  if (typeof hasProduct !== "boolean") return "`hasProduct` must be true or false";
  if (!isDiskFormat(diskFormat)) return `"${String(diskFormat)}" is no disk format`;
  if (typeof properties !== "object") return "`properties` must be an object";
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value !== "string") return `the property "${name}" must be text`;
    const mistake = mistakeInPropertyName(name) ?? mistakeInPropertyValue(name, value);
    if (mistake !== undefined) return mistake;
  }
  return undefined;
}

async function mistakeInProduct(
  { hasProduct }: Outcome,
  { source, productPath, maxProductBytes }: TransformWork,
): Promise<string | undefined> {
  if (!hasProduct) return undefined;
  const product = await lstat(productPath).catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return undefined;
    throw systemFailure(error, "the staging area", "StagingUnavailable");
  });
  if (product === undefined) return "it says that it made a product, and there is none";
  if (!product.isFile()) return "its product must be a regular file";
  // A second name of the source, or of a file elsewhere, would change with it.
  const isOwn = product.nlink === 1 && product.ino !== (await source.stat()).ino;
  if (!isOwn) return "its product must be a file of its own, with one name";
  if (product.size <= maxProductBytes) return undefined;
  return `its product has ${formatBytes(product.size)}, and may have ${formatBytes(maxProductBytes)} at most`;
}
