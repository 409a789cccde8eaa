import { formatBytes } from "../domain/byte-size.ts";
import type { FormatPolicy } from "../domain/format-policy.ts";
import { diskFormatOf, mismatch, unimportable, type DeclaredFormats } from "./declared-format.ts";
import type { Detector, Examination } from "./detector.ts";

type Checks = Examination["checks"];

/**
 * Compares the recognised format with the declared and the allowed ones.
 *
 * @param found - undefined for raw bytes
 */
export function formatChecks(
  found: Detector | undefined,
  { diskFormats, containerFormats }: FormatPolicy,
  declared: DeclaredFormats | undefined,
): Checks {
  if (declared === undefined) {
    return {
      importable: unimportable(found),
      disk_format: notAllowed("disk", diskFormats, diskFormatOf(found?.format ?? "raw")),
    };
  }
  return {
    declared_format: mismatch(declared, found),
    disk_format: notAllowed("disk", diskFormats, declared.diskFormat),
    container_format: notAllowed("container", containerFormats, declared.containerFormat),
  };
}

function notAllowed(
  kind: "disk" | "container",
  allowed: readonly string[],
  format: string | undefined,
): string | undefined {
  if (format === undefined || allowed.includes(format)) return undefined;
  return `the ${kind} format "${format}" is not allowed here (\`formats.${kind}_formats\`)`;
}

/** Compares the size that a guest would see with its limits. */
export function sizeChecks(
  virtualSizeBytes: bigint | number | null,
  sizeBytes: number,
  { maxVirtualSizeBytes, maxVirtualRatio }: FormatPolicy,
): Checks {
  if (virtualSizeBytes === null) return {};
  const isTooLarge = virtualSizeBytes > maxVirtualSizeBytes;
  const isTooSparse = maxVirtualRatio !== null && virtualSizeBytes > sizeBytes * maxVirtualRatio;
  return {
    virtual_size: isTooLarge
      ? `its virtual size is ${String(virtualSizeBytes)} bytes, more than the allowed ${formatBytes(maxVirtualSizeBytes)} (\`formats.max_virtual_size\`)`
      : undefined,
    virtual_ratio: isTooSparse
      ? `its virtual size is more than ${maxVirtualRatio} times its size of ${sizeBytes} bytes (\`formats.max_virtual_ratio\`)`
      : undefined,
  };
}
