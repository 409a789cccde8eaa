import { bootSectorOf, noTableProblem } from "./boot-sector.ts";
import type { Examination } from "./detector.ts";
import { fileSystemProblem } from "./file-system.ts";
import { wholeSectors, type ImageBytes } from "./image-bytes.ts";

/**
 * Bytes without a mark of a format: a file system, a floppy, a boot sector without a partition
 * table, or data.
 */
export async function examineRaw(image: ImageBytes): Promise<Examination> {
  const bootSector = bootSectorOf(image);
  return {
    virtualSizeBytes: wholeSectors(image.sizeBytes),
    checks: {
      mbr: bootSector === undefined ? undefined : noTableProblem(bootSector),
      complete: await fileSystemProblem(image),
    },
  };
}
