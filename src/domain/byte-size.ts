const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** Formats a size for users, such as `3.5 GiB`. The text is never parsed. */
export function formatBytes(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  // Rounded before the comparison: one byte less than 1 MiB must not become `1024.0 KiB`.
  while (roundedToTenths(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Number.isInteger(roundedToTenths(value)) ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit] ?? "B"}`;
}

/** Formats a size for users, to the byte: `1.5 GiB (1610612736 bytes)`, `7 bytes`. */
export function formatExactBytes(sizeBytes: number): string {
  const exact = `${String(sizeBytes)} bytes`;
  return sizeBytes < 1024 ? exact : `${formatBytes(sizeBytes)} (${exact})`;
}

function roundedToTenths(value: number): number {
  return Math.round(value * 10) / 10;
}

const FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};

/**
 * Reads a size such as `64MiB`, `1.5 GiB` or `4096` (bytes).
 *
 * @returns a whole number of bytes, or undefined if the text is not a size
 */
export function parseBytes(text: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)?\s*$/.exec(text);
  if (match === null) return undefined;
  const bytes = Number(match[1]) * (FACTORS[match[2] ?? ""] ?? 1);
  return Number.isSafeInteger(Math.round(bytes)) ? Math.round(bytes) : undefined;
}
