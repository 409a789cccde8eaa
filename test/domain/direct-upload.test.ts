import { describe, expect, it } from "vitest";
import { settlesUpload } from "../../src/domain/direct-upload.ts";

describe("settlesUpload()", () => {
  it.each([
    ["a refusal", { code: "QuotaExceeded", step: "claim" }],
    ["a request that is wrong in itself", { code: "BadRequest" }],
    ["a cancel", { code: "ImportCancelled", step: "store" }],
    ["a verdict on the bytes", { code: "UnsafeImage", step: "verify" }],
    ["a failed copy", { code: "NoSpace", step: "store" }],
    ["a failure that is not listed", { code: "TypeError", step: "verify" }],
  ])("is true for %s", (_, failure) => {
    expect(settlesUpload(failure)).toBe(true);
  });

  it.each([
    ["a worker without a staging area", { code: "BadTaskConfiguration", step: "claim" }],
    ["tables of another version", { code: "BadConfiguration", step: "claim" }],
    ["a claim that failed for an unknown reason", { code: "TypeError", step: "claim" }],
    ["a worker without a program", { code: "BadConfiguration", step: "transform" }],
    ["a terminated run", { code: "ImportAbandoned" }],
    ["a run that Temporal has lost", { code: "ImportNotFound" }],
    ["a start that no worker has answered", { code: "NotAcceptedYet" }],
    ["an import before it that has not closed yet", { code: "ImageBusy" }],
    ["a server that does not answer", { code: "TemporalUnavailable" }],
  ])("is false for %s", (_, failure) => {
    expect(settlesUpload(failure)).toBe(false);
  });
});
