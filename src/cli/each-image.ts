import type { Service } from "../client/service.ts";
import { settleEach } from "./at-once.ts";
import { SeveralFailed, shownFailure, type FailedItem } from "./failure.ts";
import type { End } from "./import-event.ts";
import { endOfParts, PartAnswer } from "./part-answer.ts";
import { fields } from "./render.ts";
import type { Answering, Session } from "./session.ts";

/** The work of a command on each of its images. */
export interface EachImage<Result extends object> {
  /** @param part - shows the progress of this image, if there are several */
  readonly work: (imageId: string, part: Answering) => Promise<Result>;
  /** Finds the image that a reference means. Default: `client.images.resolve` */
  readonly resolve?: ((reference: string) => Promise<string>) | undefined;
  /** Returns the text of a result, for people. */
  readonly text: (result: Result) => string;
  /** Returns the kind of end of a result. Default: `succeeded`. */
  readonly endOf?: (result: Result) => End;
  /** The largest number of images at a time. Default: 8. */
  readonly atOnce?: number;
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
export async function onEachImage<Result extends object>(
  session: Session,
  client: Service,
  references: readonly string[],
  { work, text, resolve, endOf = () => "succeeded", atOnce = AT_ONCE }: EachImage<Result>,
): Promise<void> {
  const ids = await resolveAll(client, references, resolve);
  const [only = "", ...others] = ids;
  if (others.length === 0) {
    session.about({ image_id: only });
    const result = await work(only, session);
    session.answer(result, () => text(result), endOf(result));
    return;
  }
  const parts = ids.map((id) => new PartAnswer(session, { label: id, subject: { image_id: id } }));
  const ends = await settleEach([...parts.entries()], atOnce, ([index, part]) =>
    part.run(async () => {
      const result = await work(ids[index] ?? "", part);
      part.answer(result, () => text(result), endOf(result));
      return result;
    }),
  );
  const failures = failuresOf(ids, ends);
  session.answer(
    ends.map((end, index) => (end.status === "fulfilled" ? end.value : failures.get(index))),
    () =>
      ends
        .map((end, index) =>
          end.status === "fulfilled" ? text(end.value) : failedText(failures.get(index)),
        )
        .join("\n"),
    endOfParts(parts),
  );
  if (failures.size > 0) throw new SeveralFailed([...failures.values()], ids.length);
}

/** The ids of the images, each of them once. */
export async function resolveAll(
  client: Service,
  references: readonly string[],
  resolve = (reference: string) => client.images.resolve(reference),
): Promise<string[]> {
  const ids = new Set<string>();
  for (const reference of references) ids.add(await resolve(reference));
  return [...ids];
}

/** The failures, by the index of their image. */
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
