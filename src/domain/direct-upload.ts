import { isRefusal } from "./failure-details.ts";
import type { ImportFailureCode } from "./import-failure.ts";
import type { ImportRequest } from "./import-request.ts";

/**
 * The import that begins as soon as an upload is complete, as with Glance's PUT of `file`. It is
 * recorded before the first byte, so that a complete upload is imported also if the process that
 * took it dies.
 */
export interface DirectUpload {
  readonly request_id: string;
  /** Default: the configured default store. */
  readonly stores?: readonly string[] | undefined;
  readonly user_id?: string | undefined;
  readonly roles?: readonly string[] | undefined;
  /** The owner that the image must still have when the import begins; null: none. Default: any */
  readonly expected_owner?: string | null | undefined;
}

/** The request to import a complete upload. */
export function requestOfUpload(imageId: string, upload: DirectUpload): ImportRequest {
  const { request_id, stores, user_id, roles, expected_owner } = upload;
  return {
    image_id: imageId,
    method: "glance-direct",
    direct_upload: true,
    request_id,
    ...(stores === undefined ? {} : { stores }),
    ...(user_id === undefined ? {} : { user_id }),
    ...(roles === undefined ? {} : { roles }),
    ...(expected_owner === undefined ? {} : { expected_owner }),
  };
}

/**
 * Codes of an import that has not begun or was ended from outside, or whose worker or service must
 * be corrected first.
 */
const UNSETTLED: readonly string[] = [
  "NotAcceptedYet",
  "Interrupted",
  "ImageBusy",
  "TemporalUnavailable",
  "DatabaseUnavailable",
  "ApiUnavailable",
  "NotConfigured",
  "BadConfiguration",
  "BadTaskConfiguration",
  "ImportNotFound",
  "ImportAbandoned",
  "CompensationIncomplete",
] satisfies readonly ImportFailureCode[];

/**
 * True if the upload is removed after this failure of its import: the import was refused or
 * cancelled, or has failed. After any other failure the upload stays: a worker imports it, or finds
 * out how its import ended.
 */
export function settlesUpload(failure: {
  readonly step?: string | undefined;
  readonly code: string;
}): boolean {
  return failure.step === "claim" ? isRefusal(failure) : !UNSETTLED.includes(failure.code);
}
