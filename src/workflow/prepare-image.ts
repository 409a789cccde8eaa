import { ApplicationFailure } from "@temporalio/workflow";
import type { ActivateOrder } from "../activities/activate-image.ts";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { Transformed } from "../activities/transform-staged.ts";
import type { VerifiedStaging, VerifyOrder } from "../activities/verify-staging.ts";
import type { Digests } from "../domain/digests.ts";
import type { Preparation, RanTransform } from "../domain/image-history.ts";
import type { Undo } from "./compensations.ts";
import type { ImportRun } from "./import-run.ts";
import { byteSteps, undoSteps } from "./steps.ts";

/** An image that is ready to be copied. */
export interface PreparedImage {
  readonly size: number;
  readonly virtual_size: number | null;
  /** Null if the digest step must read the bytes. */
  readonly digests: Digests | null;
  readonly detected_format?: string;
  readonly checks?: Readonly<Record<string, string>>;
  /** Number of the product that has the bytes. Undefined if the upload or download has them. */
  readonly product?: number;
  /** Changes of the image by its source and by transforms; the activation writes them. */
  readonly changes?: Pick<ActivateOrder, "disk_format" | "container_format" | "properties">;
  /** Verdict and transforms, for the history of the image. Absent for a further copy. */
  readonly preparation?: Preparation;
  /** Digests of the upload or download, before any transform. */
  readonly stagedDigests?: Digests | null;
  /** Detected format of the upload or download, before any transform. */
  readonly staged_format?: string;
}

/**
 * Downloads the image into staging if it has a URL. Returns the plan with the place of the bytes.
 */
export async function fetchImage(plan: ImportPlan, run: ImportRun): Promise<ImportPlan> {
  const { image_id, epoch, task_id, source_uri: source, source_failure: failure } = plan;
  if (failure !== undefined) {
    run.enter("fetching");
    throw ApplicationFailure.nonRetryable(failure, "SourceRefused");
  }
  if (source === undefined) return plan;
  run.enter("fetching");
  const summary = "fetch: download into staging";
  const undo = removalOfDownload(plan);
  const { uri } = await run.step({ name: "fetch", summary, pause: "stops it", undo }, (options) =>
    byteSteps(plan).fetchImage.executeWithOptions(options, [
      { image_id, epoch, task_id, uri: source },
    ]),
  );
  return { ...plan, uri };
}

function removalOfDownload(plan: ImportPlan): Undo {
  const { image_id, epoch } = plan;
  return {
    name: "fetched bytes",
    summary: "undo: remove the download",
    run: (options) =>
      undoSteps(plan).discardFetched.executeWithOptions(options, [{ image_id, epoch }]),
  };
}

/**
 * Verifies the bytes in staging and runs the configured transforms, before any store is touched.
 */
export async function prepareImage(plan: ImportPlan, run: ImportRun): Promise<PreparedImage> {
  const { transforms = [], disk_format, expected, takes_over } = plan;
  run.enter("verifying");
  const staged = await verifyStaging(plan, run, {
    disk_format,
    expected,
    ...(transforms.includes("decompress") ? { decompresses: true } : {}),
  });
  if (transforms.length > 0) return transformImage(plan, transforms, staged, run);
  const preparation = preparationOf(staged, []);
  if (takes_over !== undefined) return { ...staged, preparation, changes: takes_over };
  return disk_format === null && staged.disk_format != null
    ? { ...staged, preparation, changes: { disk_format: staged.disk_format } }
    : { ...staged, preparation };
}

function preparationOf(
  { detected_format, checks }: VerifiedStaging,
  transforms: readonly RanTransform[],
): Preparation {
  return { verdict: { detected_format, checks }, transforms };
}

/** Judges the bytes in staging. */
async function verifyStaging(
  plan: ImportPlan,
  run: ImportRun,
  order: Pick<VerifyOrder, "disk_format" | "expected" | "decompresses" | "product">,
): Promise<VerifiedStaging> {
  const { image_id, epoch, uri, container_format } = plan;
  const summary = "verify: judge the staged bytes";
  return run.step({ name: "verify", summary, pause: "stops it" }, (options) =>
    byteSteps(plan).verifyStaging.executeWithOptions(options, [
      { image_id, epoch, uri, container_format, ...order },
    ]),
  );
}

// A transform always gets a format: `raw` while the format is unknown.
const UNDECLARED = "raw";

/** Runs the transforms in order. Each product is verified like an upload. */
async function transformImage(
  plan: ImportPlan,
  transforms: readonly string[],
  staged: VerifiedStaging,
  run: ImportRun,
): Promise<PreparedImage> {
  run.enter("transforming");
  let image: VerifiedStaging = staged;
  // Null while the format is unknown: that of compressed bytes is detected after decompression.
  let disk_format = plan.disk_format ?? staged.disk_format ?? null;
  let product = 0;
  const { properties: taken = {}, ...formats } = plan.takes_over ?? {};
  let properties = taken;
  const ran: RanTransform[] = [];
  for (const transform of transforms) {
    const made = await runTransform(plan, transform, product, disk_format ?? UNDECLARED, run);
    properties = { ...properties, ...made.properties };
    ran.push({
      name: transform,
      has_product: made.product !== product,
      disk_format: made.disk_format,
      tool: made.tool ?? null,
    });
    // Bytes that were verified as compressed may turn out not to be: then the verdict on the
    // declared format is still to come.
    const isVerified = transform !== "decompress" && made.product === product;
    if (isVerified && made.disk_format === disk_format) continue;
    product = made.product;
    const isUndeclared = disk_format === null && made.disk_format === UNDECLARED;
    disk_format = isUndeclared ? null : made.disk_format;
    image = await verifyStaging(plan, run, { disk_format, product });
    disk_format ??= image.disk_format ?? null;
  }
  return {
    ...image,
    preparation: preparationOf(image, ran),
    changes: { ...formats, ...(disk_format === null ? {} : { disk_format }), properties },
    ...(product === 0
      ? {}
      : { product, stagedDigests: staged.digests, staged_format: staged.detected_format }),
  };
}

/** Runs one transform on a product; product 0 is the upload or download. */
function runTransform(
  plan: ImportPlan,
  transform: string,
  product: number,
  disk_format: string,
  run: ImportRun,
): Promise<Transformed> {
  const { image_id, epoch, task_id, uri, container_format, roles = [] } = plan;
  const name = `transform "${transform}"`;
  const summary = `transform: ${transform}`;
  const undo = removalOfProducts(plan);
  return run.step({ name, summary, pause: "stops it", undo }, (options) =>
    byteSteps(plan).transformStaged.executeWithOptions(options, [
      { image_id, epoch, task_id, uri, product, transform, disk_format, container_format, roles },
    ]),
  );
}

/** The undo of all transforms of an import: it is registered once. */
function removalOfProducts(plan: ImportPlan): Undo {
  const { image_id, epoch } = plan;
  return {
    name: "products of transforms",
    summary: "undo: remove the products of transforms",
    run: (options) =>
      undoSteps(plan).discardProducts.executeWithOptions(options, [{ image_id, epoch }]),
  };
}

/** Computes the digests of the bytes in staging. */
export async function digestStaged(
  plan: ImportPlan,
  { size, product }: PreparedImage,
  run: ImportRun,
): Promise<Digests> {
  const { image_id, epoch, task_id, uri, expected, hash_algo } = plan;
  // The owner's checksum and size are those of the upload or download.
  const bytes = product === undefined ? { expected } : { product };
  const summary = "digest: hash the staged bytes";
  return run.step({ name: "digest", summary, pause: "stops it" }, (options) =>
    byteSteps(plan).digestStaged.executeWithOptions(options, [
      { image_id, epoch, task_id, uri, size, hash_algo, ...bytes },
    ]),
  );
}

/** Compares the owner's checksum with the upload or download, if no other step compares it. */
export async function checkDigest(
  plan: ImportPlan,
  image: PreparedImage,
  run: ImportRun,
): Promise<void> {
  const { image_id, epoch, task_id, uri, expected } = plan;
  const checksum = expected?.checksum;
  if (checksum === undefined || isCompared(checksum.algo, plan, image)) return;
  const { size } = image;
  const summary = `check: compare the ${checksum.algo}`;
  await run.step({ name: "check", summary, pause: "stops it" }, (options) =>
    byteSteps(plan).checkDigest.executeWithOptions(options, [
      { image_id, epoch, task_id, uri, size, checksum },
    ]),
  );
}

/** True if another step computes this digest of the upload or download, and compares it. */
function isCompared(algo: string, { hash_algo, known }: ImportPlan, image: PreparedImage): boolean {
  if (known !== undefined) return true;
  const { product, stagedDigests = image.digests } = image;
  const isHashed = product === undefined || stagedDigests !== null;
  return isHashed && (algo === "md5" || algo === (stagedDigests?.osHashAlgo ?? hash_algo));
}
