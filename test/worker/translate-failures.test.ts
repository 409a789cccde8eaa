import type { Info } from "@temporalio/activity";
import { ApplicationFailure, CancelledFailure } from "@temporalio/common";
import { MockActivityEnvironment } from "@temporalio/testing";
import { DefaultLogger } from "@temporalio/worker";
import { describe, expect, it } from "vitest";
import { DatabaseRefusal } from "../../src/db/database-failure.ts";
import { IMPORT_FAILURES, ImportError } from "../../src/domain/import-failure.ts";
import { translateFailures } from "../../src/worker/translate-failures.ts";

function translatingEnvironment(info: Partial<Info> = {}): MockActivityEnvironment {
  return new MockActivityEnvironment(info, {
    interceptors: [() => ({ inbound: translateFailures })],
    logger: new DefaultLogger("ERROR"),
  });
}

/** The error that Temporal gets when an activity throws. */
async function seenOf(thrown: unknown, info: Partial<Info> = {}): Promise<unknown> {
  return translatingEnvironment(info)
    .run(async () => {
      throw thrown;
    })
    .catch((error: unknown) => error);
}

describe("translateFailures", () => {
  it("passes on the result of an activity", async () => {
    expect(await translatingEnvironment().run(async () => 7)).toBe(7);
  });

  it("makes a permanent failure of ours one that is not retried, with its code as the type", async () => {
    const error = new ImportError("NoSpace", 'Cannot copy to store "fast": full');

    const seen = await seenOf(error);

    expect(seen).toBeInstanceOf(ApplicationFailure);
    expect(seen).toMatchObject({
      type: "NoSpace",
      message: 'Cannot copy to store "fast": full',
      nonRetryable: true,
      cause: error,
    });
  });

  it("makes a transient failure of ours one that is retried, at any attempt", async () => {
    const error = new ImportError("StoreUnavailable", "no answer");

    expect(await seenOf(error, { attempt: 1000 })).toMatchObject({
      type: "StoreUnavailable",
      message: "no answer",
      nonRetryable: false,
    });
  });

  it.each([
    [
      "the store that it was about and the way out",
      { image_id: "one", store: "fast" },
      { store: "fast" },
    ],
    ["no store when it was about none", { image_id: "one" }, {}],
    ["no store when it was about nothing", undefined, {}],
  ])("names %s", async (_, order, details) => {
    const failing = async (given: unknown): Promise<void> => {
      throw new ImportError("StoreUnavailable", `no answer to ${String(given)}`);
    };

    const seen: unknown = await translatingEnvironment()
      .run(failing, order)
      .catch((error: unknown) => error);

    expect((seen as ApplicationFailure).details).toEqual([
      { ...details, code: "StoreUnavailable", hint: IMPORT_FAILURES.StoreUnavailable.hint },
      { attempt: 1 },
    ]);
  });

  it("waits for the time that the server asked for, and follows the retry policy otherwise", async () => {
    const delayOf = async (retryAfterMs: number | undefined) => {
      const error = new ImportError("SourceUnavailable", "busy", { retryAfterMs });
      return ((await seenOf(error, { attempt: 1 })) as ApplicationFailure).nextRetryDelay;
    };

    expect(await delayOf(120_000)).toBe(120_000);
    expect(await delayOf(0)).toBeUndefined();
    expect(await delayOf(undefined)).toBeUndefined();
  });

  it.each([
    ["a cancellation", new CancelledFailure("cancelled")],
    ["a failure of Temporal's", ApplicationFailure.retryable("wait", "Later")],
  ])("passes on %s as it is", async (_, failure) => {
    expect(await seenOf(failure, { attempt: 1000 })).toBe(failure);
  });

  it("retries an unforeseen error for a while", async () => {
    const error = new TypeError("x is not a function");

    expect(await seenOf(error, { attempt: 9 })).toBe(error);
  });

  it.each(["claimImport", "storeImage", "confirmCopies", "activateImage", "publishImage"])(
    "ends %s after repeated errors of an unknown kind",
    async (activityType) => {
      const error = new TypeError("x is not a function");

      const seen = await seenOf(error, { attempt: 10, activityType });

      expect(seen).toBeInstanceOf(ApplicationFailure);
      expect(seen).toMatchObject({
        type: "TypeError",
        message: "x is not a function",
        nonRetryable: true,
        cause: error,
      });
    },
  );

  it.each([
    "releaseImport",
    "giveUpStore",
    "removeCopy",
    "discardFetched",
    "removeImageBytes",
    "sweepNode",
  ])("never gives up %s", async (activityType) => {
    const error = new TypeError("x is not a function");

    expect(await seenOf(error, { attempt: 1000, activityType })).toBe(error);
  });

  it("ends with a refusal of the database before the acceptance, and waits for the operator after it", async () => {
    const refusal = new DatabaseRefusal("Postgres: permission denied", "GRANT it.", new Error());
    const of = (activityType: string) => seenOf(refusal, { attempt: 1000, activityType });

    expect(await of("claimImport")).toMatchObject({
      type: "BadConfiguration",
      nonRetryable: true,
      details: [{ code: "BadConfiguration", hint: "GRANT it." }, { attempt: 1000 }],
    });
    expect(await of("saveImage")).toMatchObject({ nonRetryable: false });
    expect(await of("releaseImport")).toMatchObject({ nonRetryable: false });
  });

  it("passes on a thrown value that is not an error", async () => {
    expect(await seenOf("a text", { attempt: 1000 })).toBe("a text");
  });
});
