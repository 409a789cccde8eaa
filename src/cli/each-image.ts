import type { ImageImportClient } from "../client/image-import-client.ts";
import { settleEach } from "./at-once.ts";
import { SeveralFailed, shownFailure, type FailedItem } from "./failure.ts";
import { fields } from "./render.ts";
import type { Session } from "./session.ts";

/** The work of a command on each of its images. */
export interface EachImage<Result> {
  readonly work: (imageId: string) => Promise<Result>;
  /** Finds the image that a reference means. Default: `client.images.resolve` */
  readonly resolve?: (reference: string) => Promise<string>;
  /** The result for people. */
  readonly text: (result: Result) => string;
}

// Requests to servers: many at a time gain nothing.
const AT_ONCE = 8;

/**
 * Runs the work of a command on each of its images, and answers. The answer for one image is its
 * result; for several it is a list, in the order of the images. Nothing is done if a reference
 * cannot be resolved. Apart from that, an image that fails does not stop the others.
 *
 * @throws SeveralFailed if there are several images and some of them failed
 */
export async function onEachImage<Result>(
  session: Session,
  client: ImageImportClient,
  references: readonly string[],
  { work, text, resolve }: EachImage<Result>,
): Promise<void> {
  const ids = await resolveAll(client, references, resolve);
  const [only = "", ...others] = ids;
  if (others.length === 0) {
    const result = await work(only);
    session.answer(result, () => text(result));
    return;
  }
  const ends = await settleEach(ids, AT_ONCE, work);
  const failures = failuresOf(ids, ends);
  session.answer(
    ends.map((end, index) => (end.status === "fulfilled" ? end.value : failures.get(index))),
    () =>
      ends
        .map((end, index) =>
          end.status === "fulfilled" ? text(end.value) : failedText(failures.get(index)),
        )
        .join("\n"),
  );
  if (failures.size > 0) throw new SeveralFailed([...failures.values()], ids.length);
}

/** The ids of the images, each of them once. */
export async function resolveAll(
  client: ImageImportClient,
  references: readonly string[],
  resolve = (reference: string) => client.images.resolve(reference),
): Promise<string[]> {
  const ids = new Set<string>();
  for (const reference of references) ids.add(await resolve(reference));
  return [...ids];
}

/** The failures, by their place in the list. @throws a reason that is a bug */
export function failuresOf(
  ids: readonly string[],
  ends: readonly PromiseSettledResult<unknown>[],
): Map<number, FailedItem> {
  return new Map(
    ends.flatMap((end, index) =>
      end.status === "fulfilled"
        ? []
        : [[index, { image_id: ids[index] ?? "", failure: shownFailure(end.reason) }] as const],
    ),
  );
}

function failedText(item: FailedItem | undefined): string {
  return fields([
    ["image_id", item?.image_id],
    ["failed", item?.failure.message],
  ]);
}
