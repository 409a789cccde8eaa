import { DataEnd } from "./data-end.ts";
import type { Detector, Examination } from "./detector.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";
import { BlockWalk, isOverlap } from "./vhdx-blocks.ts";
import { readLayout, type Extent, type VhdxLayout } from "./vhdx-layout.ts";
import { readLog, type LogReplay } from "./vhdx-log.ts";

const MAGIC = Buffer.from("vhdxfile", "latin1");
const MiB = 1024 * 1024;

/** Microsoft's newer format. */
export const vhdx: Detector = {
  format: "vhdx",
  matches: ({ first }) => first.subarray(0, MAGIC.length).equals(MAGIC),
  examine: async (image) => {
    const layout = await readLayout(image);
    const { disk, problem } = layout;
    // A parent is reported even if the rest is invalid.
    const parent = disk.hasParent ? "it is a differencing vhdx that refers to a parent" : undefined;
    if (disk.hasParent || problem !== undefined) {
      return { virtualSizeBytes: disk.sizeBytes, checks: { parent, metadata: problem } };
    }
    return {
      virtualSizeBytes: disk.sizeBytes,
      checks: { parent, ...(await examineBlocks(image, layout)) },
    };
  },
};

async function examineBlocks(
  image: ImageBytes,
  layout: VhdxLayout,
): Promise<Examination["checks"]> {
  const { log, regions, blockTable } = layout;
  if (log.version !== 0 || log.position < MiB || log.position % MiB !== 0) {
    return { log: "its vhdx log has an unknown version or an invalid position" };
  }
  const taken = [
    { start: log.position, end: log.position + log.lengthBytes },
    ...regions.map(rangeOf),
  ];
  const overlaps = taken.some((one, index) =>
    taken.some((other, at) => at > index && isOverlap(one, other)),
  );
  if (overlaps) return { block_table: "the regions of its vhdx overlap" };
  const replay = await replayOf(image, layout);
  const end = new DataEnd(image);
  if (blockTable === undefined) {
    throw new BrokenImage("its vhdx region table lists no block table");
  }
  const walk = new BlockWalk(blockTable, layout, taken, {
    end,
    grownBytes: replay?.lastBytes ?? 0,
  });
  const problem = walk.tableProblem ?? (await walk.all(image)) ?? walk.logged(replay);
  end.reach("byte that its vhdx log requires", replay?.flushedBytes ?? 0);
  return {
    log: replay === undefined ? undefined : logProblem(replay, layout),
    dirty:
      replay === undefined
        ? undefined
        : "its vhdx log was not replayed: its last writer did not close it",
    block_table: problem,
    complete: end.problem,
  };
}

function rangeOf({ position, lengthBytes }: Extent) {
  return { start: Number(position), end: Number(position + lengthBytes) };
}

/** The replay of the log; undefined when there is nothing to replay. */
async function replayOf(image: ImageBytes, { log }: VhdxLayout): Promise<LogReplay | undefined> {
  if (log.lengthBytes === 0 || log.guid.every((byte) => byte === 0)) return undefined;
  if (log.lengthBytes % MiB !== 0) {
    throw new BrokenImage(`its vhdx log has ${log.lengthBytes} bytes, not a multiple of 1 MiB`);
  }
  const replay = await readLog(image, log);
  return replay.entries === 0 ? undefined : replay;
}

/**
 * The finding of a log that changes the image. A program writes the log over the file when it opens
 * the image. After that, the image must still be the one that was judged.
 */
function logProblem({ writes }: LogReplay, { metadata, log }: VhdxLayout): string | undefined {
  const judged = [
    { start: 0, end: MiB },
    rangeOf(metadata),
    { start: log.position, end: log.position + log.lengthBytes },
  ];
  const isRewritten = writes.some(({ position, lengthBytes }) =>
    judged.some((range) => isOverlap(range, { start: position, end: position + lengthBytes })),
  );
  return isRewritten
    ? "its vhdx log would overwrite its header, its metadata or itself when it is replayed"
    : undefined;
}
