import type { ImportMethod } from "./import-request.ts";

/** Bytes that were digested. Null: not recorded. */
export interface RecordedBytes {
  /** In bytes. */
  readonly size: number | null;
  /** MD5. */
  readonly checksum: string | null;
  readonly os_hash_algo: string | null;
  readonly os_hash_value: string | null;
}

/** The verdict on the bytes that were published. */
export interface RecordedVerdict {
  readonly detected_format: string;
  /** `pass`, or the reason of a failure that the policy tolerates. */
  readonly checks: Readonly<Record<string, string>>;
}

/** A transform that ran, and what it did. */
export interface RanTransform {
  readonly name: string;
  /** False if it left the bytes as they were. */
  readonly has_product: boolean;
  /** Format of the bytes after it. */
  readonly disk_format: string;
  /** The program that made the product, with its version; null: none, or it is unknown. */
  readonly tool: string | null;
}

/** The results of the steps before the copies. */
export interface Preparation {
  readonly verdict: RecordedVerdict;
  /** In the order in which they ran. */
  readonly transforms: readonly RanTransform[];
}

/** The request for an import, as its task had it. Null: not given, or unknown. */
export interface RecordedRequest {
  readonly task_id: string;
  readonly run_id: string | null;
  readonly request_id: string | null;
  readonly owner: string | null;
  /** The user who requested it. */
  readonly user_id: string | null;
  readonly roles: readonly string[];
  readonly method: ImportMethod | null;
  /** The URL or staging URI of the bytes, without secrets; null: the upload at the usual place. */
  readonly source: string | null;
  /** The digest that the requester expected, and that the bytes have. */
  readonly expected_checksum: string | null;
  /** Time of the acceptance, as ISO 8601. */
  readonly accepted_at: string | null;
  /** Version of the worker that published the image or the copies. */
  readonly version: string | null;
  readonly stores: readonly { readonly store: string; readonly url: string }[];
}

/** The publication of an image. */
export interface ImportedEvent extends RecordedRequest {
  readonly event: "imported";
  readonly name: string | null;
  readonly disk_format: string | null;
  readonly container_format: string | null;
  readonly virtual_size: number | null;
  /** The upload or download, before any transform; null: it was not recorded. */
  readonly before: RecordedBytes | null;
  /** The image. */
  readonly after: RecordedBytes;
  readonly verdict: RecordedVerdict | null;
  readonly transforms: readonly RanTransform[] | null;
}

/** More copies of a published image. */
export interface CopiedEvent extends RecordedRequest {
  readonly event: "copied";
}

/** The removal of one copy. */
export interface CopyRemovedEvent {
  readonly event: "copy_removed";
  readonly stores: readonly { readonly store: string; readonly url: string }[];
}

/** A change of the right to read the image. */
export interface AccessEvent {
  readonly event: "deactivated" | "reactivated";
}

/** A change of an image that its history has. */
export type ImageEvent = ImportedEvent | CopiedEvent | CopyRemovedEvent | AccessEvent;

/** An event in the history of an image. */
export type HistoryEntry = ImageEvent & {
  /** Time of the change, as ISO 8601. */
  readonly at: string;
};
