import { z } from "zod";

/** The settings of the address that one server of a worker listens on. */
function listening(what: string) {
  return z
    .strictObject({
      host: z
        .string()
        .min(1)
        .default("127.0.0.1")
        .meta({
          description: `The address that a worker serves ${what} on. \`0.0.0.0\`: every address of the host.`,
          values: "IP address or name of this host",
        }),
      port: z.int().min(0).max(65_535).default(0).meta({
        description:
          "Its port. 0 is any free one: the first log line of the worker names it. `npm start` always takes a free one and writes it into `stack.json`.",
      }),
    })
    .prefault({});
}

/** The section `metrics`. @internal */
export const metrics = listening("the Prometheus metrics");

/** The section `health`. @internal */
export const health = listening("`/livez` and `/readyz`");
