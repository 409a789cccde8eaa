import type { Routes } from "./context.ts";
import { notFound } from "./http-failure.ts";
import { METADEF_SCHEMAS } from "./metadef-schemas.ts";
import { described } from "./open-api.ts";
import { SCHEMAS } from "./schemas.ts";

interface NameRoute {
  Params: { name: string };
}

/** Schemas, and empty lists of metadata definitions. */
export const schemaRoutes: Routes = (app) => {
  app.get<NameRoute>(
    "/v2/schemas/:name",
    described("Show a schema", { refusesBody: true, answers: { 200: undefined } }),
    ({ params: { name } }) => schemaOf(SCHEMAS, name),
  );

  app.get<NameRoute>(
    "/v2/schemas/metadefs/:name",
    described("Show a schema of metadata definitions", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    ({ params: { name } }) => schemaOf(METADEF_SCHEMAS, name),
  );

  app.get(
    "/v2/metadefs/namespaces",
    described("List the metadata namespaces: none", { answers: { 200: undefined } }),
    () => ({
      namespaces: [],
      first: "/v2/metadefs/namespaces",
      schema: "/v2/schemas/metadefs/namespaces",
    }),
  );

  app.get(
    "/v2/metadefs/resource_types",
    described("List the metadata resource types: none", { answers: { 200: undefined } }),
    () => ({ resource_types: [] }),
  );
};

function schemaOf(schemas: typeof SCHEMAS, name: string): object {
  if (Object.hasOwn(schemas, name)) return schemas[name] ?? {};
  throw notFound(`There is no schema "${name}"; there are ${Object.keys(schemas).join(", ")}.`);
}
