// The public interface: the exports of the package "image-import".
export { ImageImportClient } from "./image-import-client.ts";
export type { ClientOptions } from "./connections.ts";
export type { CancelOptions, Imports, ReportOptions, WatchOptions } from "./imports.ts";
export type { RunningImport } from "./running-import.ts";
export type { Images, CreateImage } from "./images.ts";
export type { Members } from "./members.ts";
export type { WriteGuard } from "./write-guard.ts";
export type { HostFiles, VerifyOptions } from "./host-files.ts";
export type { StagedImage, StageOptions } from "./stage-image.ts";
export type { DamagedCopy, ReadOptions, VerifiedLocation } from "./read-image.ts";
export type { Administration, AdoptedStore } from "./administration.ts";
export type { StoreView } from "./store-view.ts";
export type { Finding } from "./finding.ts";
export type { ImportReport, ImportState } from "./import-report.ts";
export type { CopyRemovalState, DeletionState } from "./delete-image.ts";
export { detectFormat } from "./detect-format.ts";
export { assertSafe, inspectFile, type Verdict } from "./inspect-file.ts";
export type { ImageView, MemberView, SeenImage, TaskView } from "./image-view.ts";
export type { CopyOptions, StartOptions } from "./start-options.ts";
export type { QuotaView, UsageView } from "./usage-view.ts";
export type {
  AcceptedCopy,
  AcceptedImport,
  ImportOutcome,
  ImportPhase,
  ImportStatus,
  Leftover,
  Leftovers,
  PhaseTime,
  Reconciled,
  StoreProgress,
} from "../workflow/contract.ts";
export { readConfig } from "../config/config.ts";
export type { Config } from "../config/config.ts";
export type { LogLevel } from "../domain/log-level.ts";
export type { ChannelArgs } from "../config/proxy-environment.ts";
export type {
  TemporalAddress,
  TemporalConnection,
  TemporalTls,
} from "../config/temporal-address.ts";
export type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
export type { Encryption, FormatPolicy, VmdkType } from "../domain/format-policy.ts";
export type { ImageChanges } from "../domain/image-fields.ts";
export type {
  AccessEvent,
  CopiedEvent,
  CopyRemovedEvent,
  HistoryEntry,
  ImageEvent,
  ImportedEvent,
  RanTransform,
  RecordedBytes,
  RecordedRequest,
  RecordedVerdict,
} from "../domain/image-history.ts";
export type {
  ImageFilter,
  Page,
  SeenBy,
  Sort,
  TaskFilter,
  TimeCondition,
  TimeFilter,
} from "../domain/image-filter.ts";
export type { ImageStatus } from "../domain/image-status.ts";
export type { TaskStatus } from "../domain/task-status.ts";
export type { MemberStatus, Visibility } from "../domain/visibility.ts";
export type { ImportMethod } from "../domain/import-request.ts";
export type { ListenAddress } from "../domain/listen-address.ts";
export type { Limits, Quota, QuotaLimits } from "../domain/quota.ts";
export type { Report } from "../domain/report.ts";
export type {
  AnyStoreSettings,
  FileOwner,
  FileStoreSettings,
  S3StoreSettings,
  StoreSettings,
} from "../domain/store-settings.ts";
export type {
  ConvertSettings,
  DecompressSettings,
  InjectMetadataSettings,
  TransformSettings,
} from "../domain/transform-settings.ts";
export type { DownloadSettings, EgressRules, WebSettings } from "../domain/web-settings.ts";
export type { DeclaredFormats } from "../formats/declared-format.ts";
export type { ForeignFormat, RecognisedFormat } from "../formats/detector.ts";
export type { FailureDetails } from "../domain/failure-details.ts";
export { ImportError, UnlistedFailure } from "../domain/import-failure.ts";
export type { FailureOptions, ImportFailureCode } from "../domain/import-failure.ts";
export type { RemoteImage } from "./remote-image.ts";
export type { FoundRemote } from "./remote-image.ts";
export type { FinishOptions } from "./direct-upload.ts";
export type { ResumableOrder } from "./resumable-upload.ts";
export type { ResumableView } from "./resumable-upload.ts";
export type { ResumableKey } from "../domain/resumable-key.ts";
export type { NextBytes } from "./upload-writer.ts";
export type { OpenOptions } from "./read-image.ts";
export type { OpenImage } from "./read-image.ts";
export type { DirectUpload } from "../domain/direct-upload.ts";
export type { ServicePlaces } from "./examine-service.ts";
export type { TakenOver } from "../domain/import-request.ts";
export type { ApiSettings, IdentitySettings, KeystoneSettings } from "../config/api-settings.ts";
