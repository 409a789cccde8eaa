import type { Service } from "../client/service.ts";
import { ImportError } from "../domain/import-failure.ts";
import { isFoundByFewDigits } from "../domain/reference.ts";
import type { Answering } from "./session.ts";

/**
 * The id of the image that a command is about. From then on its failures name the image.
 *
 * @throws ImportError `ImageNotFound`, `AmbiguousImage`
 */
export async function namedImage(
  session: Pick<Answering, "about">,
  { images }: Pick<Service, "images">,
  reference: string,
): Promise<string> {
  const imageId = await images.resolve(reference);
  session.about({ image_id: imageId });
  return imageId;
}

/**
 * The id of an image of which a command removes something. A few digits do not name it: the user
 * may have meant the name of an image that is gone, such as `cafe`. `doing` has the words before
 * `image` in the failure, such as `remove a copy of`.
 *
 * @throws ImportError `BadRequest`, and as {@link namedImage}
 */
export async function imageToRemoveFrom(
  { images }: Pick<Service, "images">,
  reference: string,
  doing: string,
): Promise<string> {
  const id = await images.resolve(reference);
  if (!isFoundByFewDigits(id, reference)) return id;
  throw new ImportError(
    "BadRequest",
    `Cannot ${doing} image "${id}" by "${reference}": no image has this name, and it is too short for the beginning of an id`,
    { hint: "Name the image by its id, by at least 8 digits of it, or by its name." },
  );
}
