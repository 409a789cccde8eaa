import { z } from "zod";
import { ImportError } from "../domain/import-failure.ts";
import { runCheck, type Finding } from "./finding.ts";

const PATIENCE_MS = 3_000;

const readiness = z.object({
  status: z.string(),
  checks: z.record(z.string(), z.object({ ok: z.boolean(), reason: z.string().nullable() })),
});

/** Asks an HTTP API if it is ready. */
export async function examineApi(apiUrl: string): Promise<Finding> {
  return runCheck("api", async () => {
    const { status, checks } = await readinessOf(apiUrl);
    if (status === "ready") return `${apiUrl}, ready`;
    const failing = Object.entries(checks)
      .filter(([, { ok }]) => !ok)
      .map(([name, { reason }]) => `${name}: ${reason ?? "does not work"}`);
    throw new ImportError(
      "NotConfigured",
      `The API at ${apiUrl} is ${status}${failing.length === 0 ? "" : ` (${failing.join("; ")})`}`,
      { hint: "Its log has the reasons." },
    );
  });
}

async function readinessOf(apiUrl: string): Promise<z.output<typeof readiness>> {
  try {
    const response = await fetch(`${apiUrl}/readyz`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    return readiness.parse(await response.json());
  } catch (cause) {
    throw new ImportError("NotConfigured", `No API answers at ${apiUrl}`, {
      cause,
      hint: "`npm start` and `image-import api` serve one. In the data directory of a stack, its log is logs/api.log.",
    });
  }
}
