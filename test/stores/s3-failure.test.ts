import { S3ServiceException } from "@aws-sdk/client-s3";
import { describe, expect, it } from "vitest";
import { hasS3Code, S3Failure } from "../../src/stores/s3-failure.ts";

const REQUEST = 'use store "objects": UploadPart 3 failed';

/** A refusal as the SDK throws it. */
function refusal(name: string, httpStatusCode: number, headers = {}): S3ServiceException {
  return Object.assign(
    new S3ServiceException({
      name,
      $fault: "client",
      message: "Message of the server",
      $metadata: { httpStatusCode },
    }),
    { $response: { headers } },
  );
}

function connectionError(code: string): Error {
  return Object.assign(new Error("socket hang up"), { code });
}

describe("S3Failure", () => {
  it("names the request and the message of the server", () => {
    const failure = new S3Failure(REQUEST, refusal("NoSuchUpload", 404));

    expect(failure.message).toBe(
      'Cannot use store "objects": UploadPart 3 failed: NoSuchUpload: Message of the server',
    );
  });

  it.each([
    ["AccessDenied", 403],
    ["InvalidAccessKeyId", 403],
    ["SignatureDoesNotMatch", 403],
    ["Forbidden", 403],
    ["XAdminUserNotFound", 404],
    // HEAD is answered without a body.
    ["403", 403],
  ])("takes %s for a right that a person must give", (name, status) => {
    const failure = new S3Failure(REQUEST, refusal(name, status));

    expect(failure).toMatchObject({ code: "PermissionDenied", isPassing: false });
  });

  it("treats missing credentials as a missing permission", () => {
    const none = Object.assign(new Error("Could not load credentials from any providers"), {
      name: "CredentialsProviderError",
    });

    expect(new S3Failure(REQUEST, none)).toMatchObject({
      code: "PermissionDenied",
      isPassing: false,
    });
  });

  it.each([
    ["QuotaExceeded", 403],
    ["EntityTooLarge", 400],
    ["XMinioStorageFull", 507],
    ["Whatever", 507],
  ])("takes %s with status %d for a store without space", (name, status) => {
    const failure = new S3Failure(REQUEST, refusal(name, status));

    expect(failure).toMatchObject({ code: "NoSpace", isPassing: false });
  });

  it.each([
    ["SlowDown", 503],
    ["InternalError", 500],
    ["ServiceUnavailable", 503],
    ["TooManyRequests", 429],
    ["RequestTimeout", 400],
    ["OperationAborted", 409],
    ["ConditionalRequestConflict", 409],
  ])("treats %s with status %d as a passing failure", (name, status) => {
    const failure = new S3Failure(REQUEST, refusal(name, status));

    expect(failure).toMatchObject({ code: "StoreUnavailable", isPassing: true });
  });

  it.each(["ECONNRESET", "ECONNREFUSED", "EPIPE", "ETIMEDOUT", "ENOTFOUND"])(
    "treats a connection's %s as a passing failure",
    (code) => {
      const failure = new S3Failure(REQUEST, connectionError(code));

      expect(failure).toMatchObject({ code: "StoreUnavailable", s3Code: code, isPassing: true });
    },
  );

  it.each([
    ["ExpiredToken", 400],
    ["NoSuchBucket", 404],
    ["NoSuchUpload", 404],
    ["InvalidPart", 400],
    ["PreconditionFailed", 412],
  ])("leaves %s to a later attempt, and not to the next moment", (name, status) => {
    const failure = new S3Failure(REQUEST, refusal(name, status));

    expect(failure).toMatchObject({ code: "StoreUnavailable", isPassing: false });
  });

  it("keeps nothing of the connection", () => {
    const failure = new S3Failure(REQUEST, refusal("SlowDown", 503, { "retry-after": "7" }));

    expect(failure.cause).not.toHaveProperty("$response");
  });

  it("knows how long the server asks to be left alone", () => {
    const failure = new S3Failure(REQUEST, refusal("SlowDown", 503, { "retry-after": "7" }));

    expect(failure.retryAfterMs).toBe(7000);
  });

  it.each([
    ["86400", 30_000],
    ["-5", 0],
  ])("does not wait for as long as %s s", (seconds, waitMs) => {
    const failure = new S3Failure(REQUEST, refusal("SlowDown", 503, { "retry-after": seconds }));

    expect(failure.retryAfterMs).toBe(waitMs);
  });

  it.each([
    ["names none", {}],
    ["names a word", { "retry-after": "soon" }],
  ])("knows no time when the server %s", (_, headers) => {
    expect(new S3Failure(REQUEST, refusal("SlowDown", 503, headers)).retryAfterMs).toBeUndefined();
  });
});

describe("hasS3Code()", () => {
  it("knows a refusal by any of the codes", () => {
    const failure = new S3Failure(REQUEST, refusal("NoSuchUpload", 404));

    expect(hasS3Code(failure, "NoSuchKey", "NoSuchUpload")).toBe(true);
    expect(hasS3Code(failure, "NoSuchKey")).toBe(false);
  });

  it("is false for other errors", () => {
    expect(hasS3Code(connectionError("NoSuchUpload"), "NoSuchUpload")).toBe(false);
  });
});
