import { ImportError } from "../domain/import-failure.ts";
import { noContent, requireImage, requireUse, type Routes } from "./context.ts";
import { importMethods } from "./glance-download.ts";
import { conflict, forbidden, notFound } from "./http-failure.ts";
import { described } from "./open-api.ts";

const MIB = 1024 * 1024;
const SIZES = ["image_size_total", "image_stage_total"] as const;
const COUNTS = ["image_count_total", "image_count_uploading"] as const;

/** The methods, stores and usage of the service; and copies in stores. */
export const infoRoutes: Routes = (app, context) => {
  const { client, config } = context;

  app.get(
    "/v2/info/import",
    described("List the ways of import", { refusesBody: true, answers: { 200: undefined } }),
    () => ({
      "import-methods": {
        description: "Import methods available.",
        type: "array",
        value: importMethods(context),
      },
    }),
  );

  app.get(
    "/v2/info/stores",
    described("List the stores", { refusesBody: true, answers: { 200: undefined } }),
    () => ({ stores: storesHere().map(({ id, facts }) => ({ id, ...facts })) }),
  );

  app.get(
    "/v2/info/stores/detail",
    described("List the stores with their settings", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    (request) => {
      requireUse(request, "stores_info_detail");
      return {
        stores: storesHere().map(({ id, facts, settings }) => ({
          id,
          ...facts,
          type: settings.type,
          weight: 0,
          properties: propertiesOf(settings),
        })),
      };
    },
  );

  /** The stores of this host that are not disabled. */
  function storesHere() {
    return Object.entries(config.stores)
      .filter(([, { disabled }]) => !disabled)
      .map(([id, settings]) => ({
        id,
        settings,
        facts: {
          ...(id === config.defaultStore ? { default: "true" } : {}),
          ...(settings.readOnly ? { "read-only": "true" } : {}),
        },
      }));
  }

  app.get(
    "/v2/info/usage",
    described("Show the usage of the caller's quotas", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request) => {
      requireUse(request, "get_usage");
      const { usage } = await client.admin.showUsage(request.caller.project);
      const limited = [...SIZES, ...COUNTS].filter((quota) => usage[quota].limit !== null);
      return {
        usage: Object.fromEntries(
          limited.map((quota) => {
            const unit = SIZES.some((each) => each === quota) ? MIB : 1;
            const { usage: used, limit } = usage[quota];
            return [
              quota,
              { usage: Math.ceil(used / unit), limit: Math.floor((limit ?? 0) / unit) },
            ];
          }),
        ),
      };
    },
  );

  app.delete<{ Params: { store: string; id: string } }>(
    "/v2/stores/:store/:id",
    described("Remove the copy of an image in a store", {
      refusesBody: true,
      answers: { 204: undefined },
    }),
    async (request, reply) => {
      const { store, id } = request.params;
      const { image, guard } = await requireImage(context, request, id, "delete_image_location");
      if (!Object.hasOwn(config.stores, store)) {
        throw conflict(`The selected store ${store} is not available on this node.`);
      }
      if (image.status !== "active") throw conflict(`Image ${id} is not active.`);
      if (image.stores.length < 2) {
        throw forbidden(
          `Cannot delete image data from the only store containing it: ${image.stores.join("")}`,
        );
      }
      if (!image.stores.includes(store))
        throw notFound(`Image ${id} is not stored on store ${store}.`);
      try {
        await client.images.removeCopy(image.id, store, 0, guard);
      } catch (error) {
        if (!(error instanceof ImportError && error.code === "ImageConflict")) throw error;
        throw forbidden(error.message, { cause: error });
      }
      return noContent(reply);
    },
  );
};

type StoreSettings = Parameters<Routes>[1]["config"]["stores"][string];

function propertiesOf(settings: StoreSettings): Readonly<Record<string, unknown>> {
  return settings.type === "file"
    ? { data_dir: settings.path, thin_provisioning: true }
    : { s3_store_bucket: settings.bucket };
}
