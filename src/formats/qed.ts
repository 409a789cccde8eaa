import type { Detector } from "./detector.ts";

const MAGIC = Buffer.from("QED\0", "latin1");

/** QEMU's abandoned format. It is recognised in order to be refused. */
export const qed: Detector = {
  format: "qed",
  matches: ({ first }) => first.subarray(0, MAGIC.length).equals(MAGIC),
  examine: () => ({
    virtualSizeBytes: null,
    checks: {
      banned: "it is a qed, a format that QEMU itself has given up; convert it to qcow2",
    },
  }),
};
