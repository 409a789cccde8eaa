import type { ActivateOrder } from "../activities/activate-image.ts";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { VerifiedStaging, VerifyOrder } from "../activities/verify-staging.ts";
import type { Digests } from "../domain/digests.ts";
import type { Acceptance } from "./acceptance.ts";
import type { Compensations } from "./compensations.ts";
import type { Copies } from "./copies.ts";
import type { ImportTracker } from "./import-tracker.ts";
import type { Pause } from "./pause.ts";
import { undoSteps, type ByteSteps } from "./steps.ts";

/** What all steps of one import share. */
export interface ImportRun {
  readonly tracker: ImportTracker;
  readonly pause: Pause;
  readonly acceptance: Acceptance;
  readonly undo: Compensations;
  readonly copies: Copies;
}

/** What is to be copied. */
export interface PreparedImage {
  readonly size: number;
  readonly virtual_size: number | null;
  /** Null when the digest step must read the bytes. */
  readonly digests: Digests | null;
  readonly detected_format?: string;
  readonly checks?: Readonly<Record<string, string>>;
  /**
   * Which file in staging has the bytes: undefined for what was staged, else the product of a
   * transform.
   */
  readonly product?: number;
  /** What transforms changed of the image itself; written when it becomes active. */
  readonly changes?: Pick<ActivateOrder, "disk_format" | "properties">;
  /** Of what was staged, before any transform. */
  readonly stagedDigests?: Digests | null;
}

// A transform always gets a format: `raw` where the request names none.
const UNDECLARED = "raw";

/**
 * The bytes come into staging, are judged, and are changed as it is configured, before any store is
 * touched.
 */
export async function prepareImage(
  plan: ImportPlan,
  run: ImportRun,
  bytes: ByteSteps,
): Promise<PreparedImage> {
  const { transforms = [], disk_format, expected } = plan;
  run.tracker.enter("verifying");
  const staged = await verify(plan, run, bytes, {
    disk_format,
    expected,
    ...(transforms.includes("decompress") ? { decompresses: true } : {}),
  });
  if (transforms.length > 0) return transformed(plan, transforms, staged, run, bytes);
  return disk_format === null && staged.disk_format != null
    ? { ...staged, changes: { disk_format: staged.disk_format } }
    : staged;
}

/**
 * Downloads the image into staging, if it is to be downloaded. Returns the plan, with where the
 * bytes lie.
 */
export async function fetchImage(
  plan: ImportPlan,
  { tracker, pause, undo }: ImportRun,
  bytes: ByteSteps,
): Promise<ImportPlan> {
  const { image_id, epoch, task_id, node, source_uri: source, times } = plan;
  if (source === undefined) return plan;
  tracker.enter("fetching");
  undo.register("fetched bytes", () =>
    undoSteps(node, times.heartbeatTimeoutMs).discardFetched.executeWithOptions(
      { summary: "undo: remove what was fetched" },
      [{ image_id, epoch }],
    ),
  );
  const { uri } = await tracker.step("fetch", undefined, () =>
    pause.during(() =>
      bytes.fetchImage.executeWithOptions({ summary: "fetch: download into staging" }, [
        { image_id, epoch, task_id, uri: source },
      ]),
    ),
  );
  return { ...plan, uri };
}

/** The verdict on the bytes in staging. */
async function verify(
  { image_id, epoch, uri, container_format }: ImportPlan,
  { tracker, pause }: ImportRun,
  bytes: ByteSteps,
  what: Pick<VerifyOrder, "disk_format" | "expected" | "decompresses" | "product">,
): Promise<VerifiedStaging> {
  return tracker.step("verify", undefined, () =>
    pause.during(() =>
      bytes.verifyStaging.executeWithOptions({ summary: "verify: judge the staged bytes" }, [
        { image_id, epoch, uri, container_format, ...what },
      ]),
    ),
  );
}

/** Runs the transforms, one after the other; what each makes is judged like what was staged. */
async function transformed(
  plan: ImportPlan,
  transforms: readonly string[],
  staged: VerifiedStaging,
  run: ImportRun,
  bytes: ByteSteps,
): Promise<PreparedImage> {
  const { tracker, pause, undo } = run;
  const { image_id, epoch, task_id, uri, node, times, container_format, roles = [] } = plan;
  tracker.enter("transforming");
  undo.register("products of transforms", () =>
    undoSteps(node, times.heartbeatTimeoutMs).discardProducts.executeWithOptions(
      { summary: "undo: remove what transforms made" },
      [{ image_id, epoch }],
    ),
  );
  let image: VerifiedStaging = staged;
  // Null while nothing has said it: what is compressed is asked once it is decompressed.
  let disk_format = plan.disk_format ?? staged.disk_format ?? null;
  let product = 0;
  let properties = {};
  for (const transform of transforms) {
    const made = await tracker.step(`transform "${transform}"`, undefined, () =>
      pause.during(() =>
        bytes.transformStaged.executeWithOptions({ summary: `transform: ${transform}` }, [
          {
            image_id,
            epoch,
            task_id,
            uri,
            product,
            transform,
            disk_format: disk_format ?? UNDECLARED,
            container_format,
            roles,
          },
        ]),
      ),
    );
    properties = { ...properties, ...made.properties };
    // What was let through as compressed must be what was declared if it turns out that it is not.
    const isJudged = transform !== "decompress" && made.product === product;
    if (isJudged && made.disk_format === disk_format) continue;
    product = made.product;
    const isUndeclared = disk_format === null && made.disk_format === UNDECLARED;
    disk_format = isUndeclared ? null : made.disk_format;
    image = await verify(plan, run, bytes, { disk_format, product });
    disk_format ??= image.disk_format ?? null;
  }
  return {
    ...image,
    changes: { ...(disk_format === null ? {} : { disk_format }), properties },
    ...(product === 0 ? {} : { product, stagedDigests: staged.digests }),
  };
}

export async function digestStaged(
  { image_id, task_id, uri, expected, hash_algo }: ImportPlan,
  { size, product }: PreparedImage,
  { tracker, pause }: ImportRun,
  bytes: ByteSteps,
): Promise<Digests> {
  // What the owner said is about what was staged.
  const what = product === undefined ? { expected } : { product };
  return tracker.step("digest", undefined, () =>
    pause.during(() =>
      bytes.digestStaged.executeWithOptions({ summary: "digest: hash the staged bytes" }, [
        { image_id, task_id, uri, size, hash_algo, ...what },
      ]),
    ),
  );
}

/**
 * Whether the owner gave a checksum that no other step compares: nobody computes it of what was
 * staged.
 */
export function needsCheck(
  { expected, hash_algo, known }: ImportPlan,
  image: PreparedImage,
): boolean {
  const algo = expected?.checksum?.algo;
  if (algo === undefined || known !== undefined) return false;
  const { product, stagedDigests = image.digests } = image;
  const isHashed = product === undefined || stagedDigests !== null;
  const isOurs = algo === "md5" || algo === (stagedDigests?.osHashAlgo ?? hash_algo);
  return !(isHashed && isOurs);
}

export async function checkDigest(
  { image_id, task_id, uri, expected }: ImportPlan,
  size: number,
  { tracker, pause }: ImportRun,
  bytes: ByteSteps,
): Promise<void> {
  const checksum = expected?.checksum;
  if (checksum === undefined) return;
  await tracker.step("check", undefined, () =>
    pause.during(() =>
      bytes.checkDigest.executeWithOptions({ summary: `check: compare the ${checksum.algo}` }, [
        { image_id, task_id, uri, size, checksum },
      ]),
    ),
  );
}
