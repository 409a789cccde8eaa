import { z } from "zod";
import { LONGEST_ACCEPT_WAIT_MS } from "../domain/accept-wait.ts";

/** The body of a request to start an import, with all that the typed client takes. */
export const startBody = z.strictObject({
  method: z.enum(["glance-direct", "web-download", "copy-image"]).default("glance-direct"),
  uri: z.string().optional().meta({ description: "`web-download`: the URL." }),
  stores: z.array(z.string()).optional(),
  all_stores: z.boolean().optional(),
  all_stores_must_succeed: z.boolean().optional(),
  detect_format: z.boolean().optional(),
  checksum: z
    .string()
    .optional()
    .meta({ description: "The expected digest: `sha256:HEX`, `md5:HEX` or `sha512:HEX`." }),
  size: z.int().min(0).optional().meta({ description: "The expected number of bytes." }),
  transforms: z
    .array(z.string())
    .optional()
    .meta({ description: "Names of the transforms to run, for administrators." }),
  request_id: z
    .string()
    .max(64)
    .optional()
    .meta({ description: "Makes a repeated request harmless." }),
  accept_timeout_ms: z
    .int()
    .min(0)
    .max(LONGEST_ACCEPT_WAIT_MS)
    .optional()
    .meta({ description: "How long to wait until a worker accepts it. Default: 60 s." }),
});

/** See {@link startBody}. */
export type StartBody = z.infer<typeof startBody>;
