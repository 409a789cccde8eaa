import type { Detector, RecognisedFormat } from "./detector.ts";

/** Disks that are recognised in order to be refused, whatever they are declared as. */
export const BANNED_DETECTORS: readonly Detector[] = [
  banned("qed", "QED\0", "it is a qed, a format that QEMU itself has abandoned"),
  // crosvm's disk/src/composite.rs: a list of files of the host. crosvm opens them when it detects
  // the format.
  banned(
    "composite",
    "composite_disk\x1d",
    "it is a crosvm composite disk: a list of other files, which crosvm opens",
  ),
];

function banned(format: RecognisedFormat, mark: string, reason: string): Detector {
  return {
    format,
    matches: ({ first }) => first.toString("latin1", 0, mark.length) === mark,
    examine: () => ({ virtualSizeBytes: null, checks: { banned: reason } }),
  };
}
