import { randomUUID } from "node:crypto";
import {
  parseImportRequest,
  type ImportMethod,
  type ImportRequest,
  type TakenOver,
} from "../domain/import-request.ts";
import { redactValues } from "../domain/redact.ts";

/** Options of a copy of an active image into more stores. */
export interface CopyOptions {
  /** The stores to fill. Default: the configured default store. */
  readonly stores?: readonly string[] | undefined;
  /** True: fill every store that takes images. Default: false. */
  readonly allStores?: boolean | undefined;
  /** True: the import fails once one store has failed permanently. Default: true. */
  readonly allStoresMustSucceed?: boolean | undefined;
  /**
   * The name of the image, for the title of the run in the Web UI. Default: the title has the id.
   */
  readonly imageName?: string | undefined;
  /** The user who requests it, for the record of the task. Default: unknown. */
  readonly userId?: string | undefined;
  /**
   * The owner that the image must have; null: none. The import is refused if the image has another
   * owner by then. Default: any.
   */
  readonly expectedOwner?: string | null | undefined;
  /**
   * The body of the HTTP request for the import, for the record of the task: at most 64 KiB of
   * JSON. Values in it that may be secrets are redacted first. Default: none.
   */
  readonly apiRequest?: Readonly<Record<string, unknown>> | undefined;
  /** Makes a repeated start harmless. Default: a new UUID. */
  readonly requestId?: string | undefined;
  /** Limit of the wait until a worker accepts or refuses the request, in ms. Default: 60 s. */
  readonly acceptTimeoutMs?: number | undefined;
  /** Ends that wait; an import that was started continues. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of an import. */
export interface StartOptions extends CopyOptions {
  /** The source of the bytes. Default: `glance-direct`, the staged data. */
  readonly method?: Exclude<ImportMethod, "copy-image"> | undefined;
  /**
   * `glance-direct`: a file below the staging root, `file:///…`; default: the image's upload.
   * `web-download`: an `http` or `https` URL.
   */
  readonly uri?: string | undefined;
  /**
   * True: detect the disk format of an image that has none. Default: such an image is refused.
   */
  readonly detectFormat?: boolean | undefined;
  /** The expected digest: `sha256:<hex>`, `md5:<hex>` or `sha512:<hex>`. Default: any. */
  readonly checksum?: string | undefined;
  /** The expected number of bytes. Default: any. */
  readonly size?: number | undefined;
  /** Sent as `X-Auth-Token` to the origin of `uri` alone, and sealed with it. Default: none. */
  readonly token?: string | undefined;
  /** The facts that the image takes over from one of another service. Default: none. */
  readonly takesOver?: TakenOver | undefined;
  /**
   * The reason for which there is nothing to download: the import is accepted, and fails with it.
   * Default: none.
   */
  readonly sourceFailure?: string | undefined;
  /** True if the import follows an upload automatically. Default: false. */
  readonly directUpload?: boolean | undefined;
  /** Roles of the requester. Default: none. */
  readonly roles?: readonly string[] | undefined;
  /**
   * Names of the transforms to run, in their order; empty: none. Each must be one that the worker
   * has configured. Default: all that are configured.
   */
  readonly transforms?: readonly string[] | undefined;
}

/** Options of an import by any method. */
export type RequestOptions = Omit<StartOptions, "method"> & {
  readonly method?: ImportMethod | undefined;
};

/**
 * The request as the workflow takes it, without fields that were not given.
 *
 * @throws ImportError `BadRequest`
 */
export function requestOf(imageId: string, options: RequestOptions): ImportRequest {
  const fields = {
    image_id: imageId,
    method: options.method ?? "glance-direct",
    request_id: options.requestId ?? randomUUID(),
    uri: options.uri,
    stores: options.stores,
    all_stores: options.allStores,
    all_stores_must_succeed: options.allStoresMustSucceed,
    detect_format: options.detectFormat,
    checksum: options.checksum,
    size: options.size,
    takes_over: options.takesOver,
    source_failure: options.sourceFailure,
    roles: options.roles,
    transforms: options.transforms,
    user_id: options.userId,
    expected_owner: options.expectedOwner,
    direct_upload: options.directUpload,
    api_request: options.apiRequest && redactValues(options.apiRequest),
  };
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return parseImportRequest(Object.fromEntries(given));
}
