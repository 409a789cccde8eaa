export function ensureTemporalCli(options?: {
  readonly installed?: Promise<unknown>;
  readonly server?: string;
}): Promise<string>;
