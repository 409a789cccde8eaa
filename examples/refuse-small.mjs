/** @type {import("image-import/transform").Transform} */
export default {
  name: "refuse_small",
  leavesBytes: true,
  async run({ sizeBytes }) {
    if (sizeBytes < 4096) throw new Error(`${sizeBytes} bytes are not a disk`);
    return { hasProduct: false, properties: { checked_by: "refuse_small" } };
  },
};
