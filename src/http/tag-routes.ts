import { noContent, requireImage, type Routes } from "./context.ts";
import { notFound } from "./http-failure.ts";
import { readAttribute, requireFew } from "./image-attributes.ts";
import { described } from "./open-api.ts";

interface TagRoute {
  Params: { id: string; tag: string };
}

/** Tags of an image. */
export const tagRoutes: Routes = (app, context) => {
  const { images } = context.client;

  app.put<TagRoute>(
    "/v2/images/:id/tags/:tag",
    described("Add a tag", { refusesBody: true, answers: { 204: undefined } }),
    async (request, reply) => {
      const { id, tag } = request.params;
      readAttribute("tags", [tag]);
      const { image, guard } = await requireImage(context, request, id, "modify_image");
      await images.change(
        image.id,
        ({ tags }) => {
          requireFew("tags", new Set([...tags, tag]).size);
          return { addTags: [tag] };
        },
        guard,
      );
      return noContent(reply);
    },
  );

  app.delete<TagRoute>(
    "/v2/images/:id/tags/:tag",
    described("Remove a tag", { refusesBody: true, answers: { 204: undefined } }),
    async (request, reply) => {
      const { id, tag } = request.params;
      const { image, guard } = await requireImage(context, request, id, "modify_image");
      await images.change(
        image.id,
        ({ tags }) => {
          if (!tags.includes(tag)) throw notFound(`Image ${id} has no tag "${tag}".`);
          return { removeTags: [tag] };
        },
        guard,
      );
      return noContent(reply);
    },
  );
};
