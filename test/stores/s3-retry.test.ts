import { S3ServiceException } from "@aws-sdk/client-s3";
import { describe, expect, it, vi } from "vitest";
import { S3Failure } from "../../src/stores/s3-failure.ts";
import { retryPassing } from "../../src/stores/s3-retry.ts";
import { PATIENCE } from "../support/patience.ts";

const STAYING = new Error("A mistake of our own");

/** A server that is busy, and asks to be left alone for some time. */
function busy(retryAfterSeconds: number): S3Failure {
  const answer = new S3ServiceException({
    name: "SlowDown",
    $fault: "server",
    message: "Please reduce your request rate.",
    $metadata: { httpStatusCode: 503 },
  });
  const $response = { headers: { "retry-after": String(retryAfterSeconds) } };
  return new S3Failure("ask", Object.assign(answer, { $response }));
}

describe("retryPassing()", () => {
  it("returns the result of the last try", async () => {
    const work = vi.fn(async () => "done").mockRejectedValueOnce(busy(0));

    expect(await retryPassing(work, undefined)).toBe("done");

    expect(work).toHaveBeenCalledTimes(2);
  });

  it("gives up after the fifth time, with the last failure", async () => {
    const failures = Array.from({ length: 5 }, () => busy(0));
    const work = vi.fn(async () => "done");
    for (const failure of failures) work.mockRejectedValueOnce(failure);

    await expect(retryPassing(work, undefined)).rejects.toBe(failures[4]);
  });

  it("does not retry a failure that is not passing", async () => {
    const work = vi.fn(async () => "done").mockRejectedValueOnce(STAYING);

    await expect(retryPassing(work, undefined)).rejects.toBe(STAYING);

    expect(work).toHaveBeenCalledTimes(1);
  });

  it("doesn't wait any longer when it is cancelled", async () => {
    const controller = new AbortController();
    const reason = new Error("Enough");
    const work = vi.fn(async () => "done").mockRejectedValueOnce(busy(3600));

    const trying = retryPassing(work, controller.signal);
    await vi.waitUntil(() => work.mock.settledResults.length === 1, PATIENCE);
    controller.abort(reason);

    await expect(trying).rejects.toBe(reason);
    expect(work).toHaveBeenCalledTimes(1);
  });
});
