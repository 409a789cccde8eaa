/**
 * A table of the routes of an OpenAPI document.
 *
 * @param {{ paths?: Record<string, Record<string, { summary?: string }>> }} document
 */
export function routeTable({ paths = {} }) {
  const rows = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { summary = "" }]) => [
      `\`${method.toUpperCase()} ${path}\``,
      summary,
    ]),
  );
  const width = Math.max(...rows.map(([route = ""]) => route.length));
  const line = (/** @type {readonly string[]} */ [route = "", summary = ""]) =>
    `| ${route.padEnd(width)} | ${summary} |`;
  return [line(["Route", "Does"]), line(["-".repeat(width), "---"]), ...rows.map(line)].join("\n");
}
