export function ensureTemporalCli(): Promise<string>;
