import { wrapped } from "./regions.mjs";

/**
 * A list of the routes of an OpenAPI document.
 *
 * @param {{ paths?: Record<string, Record<string, { summary?: string }>> }} document
 */
export function routeList({ paths = {} }) {
  return Object.entries(paths)
    .flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { summary = "" }]) =>
        wrapped(`\`${method.toUpperCase()} ${path}\`: ${summary}`, { first: "- ", rest: "  " }),
      ),
    )
    .join("\n");
}
