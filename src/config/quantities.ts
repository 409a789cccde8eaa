import { z } from "zod";
import { parseBytes } from "../domain/byte-size.ts";
import { parseDurationMs } from "../domain/duration.ts";

/** A size such as `64MiB`, or a number of bytes; at least one byte. */
export const bytes = z
  .union([z.number(), z.string()])
  .transform((value, context) => {
    const parsed = typeof value === "number" ? value : parseBytes(value);
    if (parsed !== undefined && Number.isSafeInteger(parsed) && parsed > 0) return parsed;
    context.addIssue({ code: "custom", message: `must be a size such as 64MiB, not "${value}"` });
    return z.NEVER;
  })
  .meta({ unit: "size" });

/** The limit of a quota: a size such as `500GiB`, or 0; `unlimited` becomes `Infinity`. */
export const quotaBytes = quota(parseBytes, "a size such as 500GiB").meta({
  unit: "size or `unlimited`",
});

/** The limit of a quota of images: a number, or 0; `unlimited` becomes `Infinity`. */
export const quotaCount = quota(() => undefined, "a number such as 100").meta({
  unit: "number or `unlimited`",
});

function quota(parse: (text: string) => number | undefined, rule: string) {
  return z.union([z.number(), z.string()]).transform((value, context) => {
    if (value === "unlimited") return Infinity;
    const parsed = typeof value === "number" ? value : parse(value);
    if (parsed !== undefined && Number.isSafeInteger(parsed) && parsed >= 0) return parsed;
    context.addIssue({ code: "custom", message: `must be ${rule}, or unlimited, not "${value}"` });
    return z.NEVER;
  });
}

/** A duration such as `15s`, in ms; at least 1 ms. */
export const durationMs = z
  .string()
  .transform((value, context) => {
    const parsed = parseDurationMs(value);
    if (parsed !== undefined && parsed > 0) return parsed;
    context.addIssue({ code: "custom", message: `must be a duration such as 15s, not "${value}"` });
    return z.NEVER;
  })
  .meta({ unit: "duration" });
