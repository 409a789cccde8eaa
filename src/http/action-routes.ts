import { ImportError } from "../domain/import-failure.ts";
import { noContent, requireImage, type Routes } from "./context.ts";
import { forbidden } from "./http-failure.ts";
import { described } from "./open-api.ts";

/** Actions: deactivate and reactivate. */
export const actionRoutes: Routes = (app, context) => {
  const { images } = context.client;
  const actions = {
    deactivate: { to: "deactivated", move: images.deactivate.bind(images) },
    reactivate: { to: "active", move: images.reactivate.bind(images) },
  } as const;
  for (const action of ["deactivate", "reactivate"] as const) {
    const { to, move } = actions[action];
    app.post<{ Params: { id: string } }>(
      `/v2/images/:id/actions/${action}`,
      described(`${action === "deactivate" ? "Deactivate" : "Reactivate"} an image`, {
        refusesBody: true,
        answers: { 204: undefined },
      }),
      async (request, reply) => {
        const { image, guard } = await requireImage(context, request, request.params.id, action);
        // A repeated request has nothing to do.
        if (image.status === to) return noContent(reply);
        try {
          await move(image.id, guard);
        } catch (error) {
          const isIllegal = error instanceof ImportError && error.code === "IllegalTransition";
          if (!isIllegal) throw error;
          throw forbidden(`Not allowed to ${action} image in status '${image.status}'`, {
            cause: error,
          });
        }
        return noContent(reply);
      },
    );
  }
};
