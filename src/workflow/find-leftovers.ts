import type { Abandoned } from "../activities/find-abandoned.ts";
import type { Unowned } from "../activities/sweep-node.ts";
import { transformAt } from "../domain/place.ts";
import type { CopyToRemove } from "../domain/undo-order.ts";
import type { Leftover, Leftovers } from "./contract.ts";
import { describeFailure } from "./failure-report.ts";
import { control, probeSteps, sweepSteps } from "./steps.ts";

// The result is one payload, and Temporal accepts payloads of up to 2 MiB.
const MOST = 5_000;

/**
 * Finds what `reconcileImports` would do now, and changes nothing. It is not an argument of
 * `reconcileImports`: a worker of an earlier version would ignore the argument, and change things.
 * It does not know this workflow, and so changes nothing.
 */
export async function findLeftovers(): Promise<Leftovers> {
  const found = await control.findAbandoned.executeWithOptions(
    { summary: "find the work of imports that do not run" },
    [],
  );
  const failures: string[] = [];
  const nodes = await Promise.all(found.nodes.map((node) => findOn(node, failures)));
  const expiredTasks = await control.countExpiredTasks.executeWithOptions(
    { summary: "count expired tasks" },
    [],
  );
  const leftovers = [...inCatalogue(found), ...nodes.flatMap(({ leftovers: each }) => each)];
  return {
    leftovers: leftovers.slice(0, MOST),
    left_out:
      Math.max(0, leftovers.length - MOST) +
      nodes.reduce((sum, { left_out: leftOut }) => sum + leftOut, 0),
    expired_tasks: expiredTasks,
    failures,
  };
}

type Found = Pick<Leftovers, "leftovers" | "left_out">;

const NOTHING: Found = { leftovers: [], left_out: 0 };

/** The leftovers on a staging volume and in its stores. */
async function findOn(node: string, failures: string[]): Promise<Found> {
  try {
    // Without a worker on the node, this call fails within 20 s.
    await probeSteps(node).probeStores.executeWithOptions(
      { summary: `probe the stores of ${node}` },
      [],
    );
    const unowned = await sweepSteps(node).findUnowned.executeWithOptions(
      { summary: `find files without an owner on ${node}` },
      [],
    );
    return { leftovers: unownedOn(node, unowned), left_out: unowned.left_out };
  } catch (error) {
    const { code, text } = describeFailure(error);
    failures.push(`sweep of ${node}: ${code}: ${text}`);
    return NOTHING;
  }
}

function inCatalogue({ claims, copies, deletions, removals = [] }: Abandoned): Leftover[] {
  return [
    ...claims.map(({ image_id }) => leftover("claim", { image_id })),
    ...claims.flatMap((claim) => claim.copies).map((copy) => ofCopy("copy", copy)),
    ...copies.map((copy) => ofCopy("copy", copy)),
    ...deletions.map((imageId) => leftover("deletion", { image_id: imageId })),
    ...removals.map((copy) => ofCopy("copy_removal", copy)),
  ];
}

function ofCopy(kind: Leftover["kind"], { image_id, store, node }: CopyToRemove): Leftover {
  return leftover(kind, { image_id, store, node });
}

function unownedOn(node: string, { leases, parts }: Unowned): Leftover[] {
  return [
    ...leases.map(({ image_id, place }) => {
      const transform = transformAt(place);
      return transform === undefined
        ? leftover("staged", { image_id, node, name: place })
        : leftover("transform", { image_id, node, name: transform });
    }),
    ...parts.map(({ store, name }) => leftover("part", { store, node, name })),
  ];
}

function leftover(kind: Leftover["kind"], known: Partial<Leftover>): Leftover {
  return { image_id: null, store: null, node: null, name: null, ...known, kind };
}
