import type { Digests } from "../domain/digests.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Report } from "../domain/report.ts";
import { BLOCK_BYTES } from "./block-size.ts";
import { DEFAULT_HASH_ALGO, DigestRing } from "./digest-ring.ts";
import { readFully } from "./positional-io.ts";
import type { PositionalReader } from "./positional-io.ts";

/** Settings of {@link hashFile}. */
export interface HashFileOptions {
  /** Size that the file must have; bytes beyond it are not read. */
  readonly sizeBytes: number;
  /** The multihash, as node:crypto names it. @default {"sha512"} */
  readonly hashAlgo?: string;
  /** Stops the reading within a block or so. */
  readonly signal?: AbortSignal;
  /** Called after every block with the number of bytes read so far. */
  readonly report?: Report;
}

/**
 * Computes the digests of a file. It reads ahead of the hashing by up to eight blocks, and holds no
 * more than those.
 *
 * @throws ImportError `StagedDataChanged` when the file is shorter than `sizeBytes`
 * @throws the signal's reason when it is aborted
 */
export async function hashFile(
  handle: PositionalReader,
  { sizeBytes, hashAlgo = DEFAULT_HASH_ALGO, signal, report }: HashFileOptions,
): Promise<Digests> {
  using ring = DigestRing.open({ hashAlgo });
  let doneBytes = 0;
  while (doneBytes < sizeBytes) {
    signal?.throwIfAborted();
    using block = await ring.acquire();
    const wantedBytes = Math.min(BLOCK_BYTES, sizeBytes - doneBytes);
    const readBytes = await readFully(handle, block.bytes.subarray(0, wantedBytes), doneBytes);
    ring.submit(block, readBytes);
    doneBytes += readBytes;
    if (readBytes < wantedBytes) throw tooShort(doneBytes, sizeBytes);
    report?.(doneBytes);
  }
  signal?.throwIfAborted();
  return await ring.finish();
}

function tooShort(actualBytes: number, sizeBytes: number): ImportError {
  return new ImportError(
    "StagedDataChanged",
    `Cannot read the staged data to its end: it has ${actualBytes} of ${sizeBytes} bytes`,
  );
}
