import type { Database } from "../db/connect.ts";
import type { FormatPolicy } from "../domain/format-policy.ts";
import type { ImportError } from "../domain/import-failure.ts";
import type { Limits } from "../domain/quota.ts";
import type { SealingKeys } from "../sources/sealing-keys.ts";
import type { WebSource } from "../sources/web-source.ts";
import type { StagingArea } from "../staging/staging-area.ts";
import type { Stores } from "../stores/open-stores.ts";
import type { Transforms } from "../transforms/open-transforms.ts";
import type { Attempts } from "./attempts.ts";
import type { LastFailure } from "./progress.ts";

/**
 * The time limits of an import, in ms. They are in its history, so that a replay uses the same
 * ones.
 */
export interface ImportTimes {
  readonly deadlineMs: number;
  readonly heartbeatTimeoutMs: number;
}

/** Dependencies of every activity. */
export interface Dependencies {
  readonly database: Database;
  readonly stores: Stores;
  readonly transforms: Transforms;
  /** This worker's staging area, or the reason why it has none. */
  readonly staging: StagingArea | ImportError;
  readonly attempts: Attempts;
  /** The source of downloads. */
  readonly web: WebSource;
  /** Opens URIs that hold secrets. */
  readonly sealingKeys: SealingKeys;
  readonly times: ImportTimes;
  /** Size up to which an image is published in one step, in bytes. */
  readonly publishAtOnceBytes: number;
  /** Time after which a source or store that moves nothing has failed, in ms. */
  readonly idleTimeoutMs: number;
  /** True if every copy is read back before its image becomes active. */
  readonly verifyOnPublish: boolean;
  /** Policy for the formats of images. */
  readonly formatPolicy: FormatPolicy;
  readonly stagingTimeToLiveMs: number;
  /** Time for which the record of a task is kept after its end. */
  readonly taskTimeToLiveMs: number;
  readonly hashAlgo: string;
  readonly limits: Limits;
  /** Version of this software, for the history of images. */
  readonly version: string;
  /**
   * True if a run of this workflow id is open in Temporal. False for a run that Temporal no longer
   * knows.
   *
   * @param runId - default: the newest run
   */
  readonly isRunOpen: (workflowId: string, runId?: string) => Promise<boolean>;
  /** Names of the search attributes of imports that Temporal has now. Default: all. */
  readonly searchAttributes?: () => Promise<readonly string[]>;
  /** The last failure of each step that an open run waits for. */
  readonly lastFailuresOf: (workflowId: string, runId: string) => Promise<readonly LastFailure[]>;
}

/** Dependencies of a worker that serves the bytes of a staging volume. */
export interface NodeDependencies extends Dependencies {
  readonly staging: StagingArea;
}
