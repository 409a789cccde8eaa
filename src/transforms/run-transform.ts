import { lstat } from "node:fs/promises";
import { hasErrorCode, isMachineError } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { isDiskFormat, type DiskFormat } from "../domain/disk-format.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { mistakeInPropertyName, mistakeInPropertyValue } from "../domain/image-fields.ts";
import { ImportError } from "../domain/import-failure.ts";
import { isStorable } from "../domain/storable-text.ts";
import type { Transform, TransformResult, TransformWork } from "./transform.ts";

/** The checked result of a transform, with its defaults. */
export interface Outcome {
  readonly hasProduct: boolean;
  readonly diskFormat: DiskFormat;
  readonly properties: Readonly<Record<string, string>>;
  readonly tool?: string;
}

const LONGEST_TOOL = 200;

/**
 * Runs a transform, which may be the user's own, and checks everything that it returns.
 *
 * @throws ImportError `TransformFailed` naming the transform and the reason, `NoSpace`; retried:
 *   `TransformUnavailable`, if the error of the transform has `retryable` or is one of the machine,
 *   such as `EIO`. An `ImportError` of the transform is thrown as it is.
 */
export async function runTransform(transform: Transform, work: TransformWork): Promise<Outcome> {
  const result = await resultOf(transform, work);
  const diskFormat = result?.diskFormat ?? work.image.diskFormat;
  const outcome = {
    hasProduct: result?.hasProduct ?? false,
    diskFormat: diskFormat as DiskFormat,
    properties: result?.properties ?? {},
    ...(result?.tool === undefined ? {} : { tool: result.tool }),
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
    // An aborted transform throws an error of its own: the reason of the signal counts.
    work.signal.throwIfAborted();
    if (cause instanceof ImportError) throw cause;
    if (hasErrorCode(cause, "ENOSPC", "EDQUOT")) {
      throw systemFailure(cause, "the staging area", "StagingUnavailable");
    }
    throw failed(transform, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

function failed({ name }: Transform, reason: string, cause?: unknown): ImportError {
  const isDeclared =
    typeof cause === "object" && cause !== null && "retryable" in cause && cause.retryable === true;
  // An error of the machine does not mean that the image is wrong.
  const code = isDeclared || isMachineError(cause) ? "TransformUnavailable" : "TransformFailed";
  return new ImportError(code, `The transform "${name}" failed: ${reason}`, { cause });
}

function mistakeIn({ hasProduct, diskFormat, properties, tool }: Outcome): string | undefined {
  if (typeof hasProduct !== "boolean") return "`hasProduct` must be true or false";
  if (!isDiskFormat(diskFormat)) return `"${String(diskFormat)}" is not a disk format`;
  if (typeof properties !== "object") return "`properties` must be an object";
  if (tool !== undefined && !isTool(tool)) {
    return `\`tool\` must be text of at most ${LONGEST_TOOL} characters, none of them NUL`;
  }
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value !== "string") return `the property "${name}" must be text`;
    const mistake = mistakeInPropertyName(name) ?? mistakeInPropertyValue(name, value);
    if (mistake !== undefined) return mistake;
  }
  return undefined;
}

function isTool(tool: unknown): boolean {
  return typeof tool === "string" && tool.length <= LONGEST_TOOL && isStorable(tool);
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
  if (product === undefined) return "it returned `hasProduct`, but wrote no product";
  if (!product.isFile()) return "its product must be a regular file";
  // A second name of the source, or of another file, would change with that file.
  const isOwn = product.nlink === 1 && product.ino !== (await source.stat()).ino;
  if (!isOwn) return "its product must be a file of its own, with one name";
  if (product.size <= maxProductBytes) return undefined;
  return `its product has ${formatBytes(product.size)}, more than the allowed ${formatBytes(maxProductBytes)}`;
}
