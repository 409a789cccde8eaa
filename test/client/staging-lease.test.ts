import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { StagingLease } from "../../src/client/staging-lease.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { useCatalogue } from "../support/catalogue.ts";

const catalogue = useCatalogue();

function leaseThat(renew: () => Promise<unknown>): StagingLease {
  const tools = { database: catalogue.database, limits: NO_LIMITS };
  return new StagingLease(tools, randomUUID(), randomUUID(), { renew, renewEveryMs: 1 });
}

describe("StagingLease.during()", () => {
  it("returns when no renewal is under way, and runs one at a time", async () => {
    let running = 0;
    let most = 0;
    let renewals = 0;
    let begun: () => void = () => undefined;
    const someBegan = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const lease = leaseThat(async () => {
      running += 1;
      renewals += 1;
      most = Math.max(most, running);
      if (renewals === 3) begun();
      await new Promise(setImmediate);
      await new Promise(setImmediate);
      running -= 1;
    });

    const result = await lease.during(async () => {
      await someBegan;
      return "done";
    });

    expect(result).toBe("done");
    expect(running).toBe(0);
    // The last one is that of the end, which may meet one of the timer.
    expect(most).toBeLessThanOrEqual(2);
  });

  it("stops the work when another process has the lease", async () => {
    const reason = new ImportError("StagingBusy", "Another process took over");
    const lease = leaseThat(() => Promise.reject(reason));

    const stopped = lease.during(
      (signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            reject(signal.reason as Error);
          });
        }),
    );

    await expect(stopped).rejects.toBe(reason);
  });

  it("continues while the database is unreachable", async () => {
    let failures = 0;
    let enough: () => void = () => undefined;
    const isEnough = new Promise<void>((resolve) => {
      enough = resolve;
    });
    const lease = leaseThat(async () => {
      failures += 1;
      if (failures > 3) enough();
      else throw new ImportError("DatabaseUnavailable", "Cannot reach it");
    });

    await expect(lease.during(() => isEnough)).resolves.toBeUndefined();
  });
});
