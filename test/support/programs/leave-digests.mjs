import { DigestRing } from "#dist/bytes/digest-ring.js";

// Ends while blocks are in a ring that it does not close.

const ring = DigestRing.open();
for (let i = 0; i < 3; i += 1) {
  const block = await ring.acquire();
  ring.submit(block, block.bytes.length);
}
process.stdout.write("left\n");
