import type { ImageImportClient } from "../client/image-import-client.ts";
import type { Answering } from "./session.ts";

/**
 * The id of the image that a command is about. From then on its failures name the image.
 *
 * @throws ImportError `ImageNotFound`, `AmbiguousImage`
 */
export async function namedImage(
  session: Pick<Answering, "about">,
  { images }: Pick<ImageImportClient, "images">,
  reference: string,
): Promise<string> {
  const imageId = await images.resolve(reference);
  session.about({ image_id: imageId });
  return imageId;
}
