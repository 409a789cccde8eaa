// The public door: what `import … from "image-import"` gives.
export { ImageImportClient } from "./image-import-client.ts";
export type { ClientOptions } from "./connections.ts";
export type { Imports } from "./imports.ts";
export type { Images, CreateImage } from "./images.ts";
export type { HostFiles } from "./host-files.ts";
export type { Administration, AdoptedStore } from "./administration.ts";
export type { StoreView } from "./store-view.ts";
export type { Finding } from "./finding.ts";
export type { ImportReport, ImportState } from "./import-report.ts";
export type { CopyRemovalState, DeletionState } from "./delete-image.ts";
export { detectFormat } from "./detect-format.ts";
export { assertSafe, inspectFile, type Verdict } from "./inspect-file.ts";
export type { ImageView, TaskView } from "./image-view.ts";
export type { CopyOptions, StartOptions } from "./start-options.ts";
export type { UsageView } from "./usage-view.ts";
export type {
  AcceptedCopy,
  AcceptedImport,
  ImportOutcome,
  ImportStatus,
} from "../workflow/contract.ts";
export { readConfig } from "../config/config.ts";
export type { Config } from "../config/config.ts";
export type { FailureDetails } from "../domain/failure-details.ts";
export { ImportError, UnlistedFailure } from "../domain/import-failure.ts";
export type { ImportFailureCode } from "../domain/import-failure.ts";
