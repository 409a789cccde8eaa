/** The address of an upload that outlives its writers. */
export interface ResumableKey {
  readonly imageId: string;
  /** Eight hex digits: another upload of the image has others. */
  readonly generation: string;
}
