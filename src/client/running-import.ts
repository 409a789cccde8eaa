/** An import that runs. */
export interface RunningImport {
  readonly image_id: string;
  /** Name of the image when the import was accepted; null if it had none. */
  readonly name: string | null;
  readonly run_id: string;
}
