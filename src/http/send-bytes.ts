import type { ServerResponse } from "node:http";
import type { OpenImage } from "../client/read-image.ts";
import type { ByteRange } from "./byte-range.ts";

const BLOCK_BYTES = 1024 * 1024;

/**
 * Sends a range of an image as the body of an answer, and ends the answer. One block is read while
 * the one before it is sent; memory holds no more. A failure drops the connection: so the client
 * sees that the answer is not complete.
 */
export async function sendBytes(
  image: OpenImage,
  { start, end }: ByteRange,
  response: ServerResponse,
): Promise<void> {
  const blocks = [
    Buffer.allocUnsafeSlow(BLOCK_BYTES),
    Buffer.allocUnsafeSlow(BLOCK_BYTES),
  ] as const;
  let sending: Promise<void> = Promise.resolve();
  try {
    for (let position = start, turn = 0; position <= end; turn = 1 - turn) {
      const block = (turn === 0 ? blocks[0] : blocks[1]).subarray(0, end + 1 - position);
      const lengthBytes = await image.read(block, position);
      if (lengthBytes === 0) throw new Error(`The copy ends at byte ${String(position)}`);
      await sending;
      sending = sent(response, block.subarray(0, lengthBytes));
      // Awaited below: until then, a failure must not count as an unhandled rejection.
      sending.catch(() => undefined);
      position += lengthBytes;
    }
    await sending;
    response.end();
  } catch (error) {
    response.destroy();
    throw error;
  }
}

/** Fulfilled when the system has taken the bytes; rejected when the client has gone. */
async function sent(response: ServerResponse, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onClose = (): void => {
      reject(new Error("The client has closed the connection"));
    };
    if (response.destroyed) {
      onClose();
      return;
    }
    response.once("close", onClose);
    response.write(bytes, (error) => {
      response.off("close", onClose);
      if (error == null) resolve();
      else reject(error);
    });
  });
}
