export function ensureVersitygw(): Promise<string | undefined>;
