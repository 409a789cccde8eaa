export function untilStandstill<Result>(
  directory: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<Result>,
  limitMs?: number,
): Promise<{ readonly result: Result; readonly isStalled: boolean }>;
