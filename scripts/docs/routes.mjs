import { wrapped } from "./regions.mjs";

/**
 * A list of the routes of an OpenAPI document. @throws Error for a route without a summary
 *
 * @param {{ paths?: Record<string, Record<string, { summary?: string }>> }} document
 */
export function routeList({ paths = {} }) {
  return Object.entries(paths)
    .flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { summary }]) => {
        const route = `${method.toUpperCase()} ${path}`;
        if (summary === undefined) throw new Error(`The route ${route} has no summary`);
        return wrapped(`\`${route}\`: ${summary}`, { first: "- ", rest: "  " });
      }),
    )
    .join("\n");
}
