import type { Leftover, Leftovers, Reconciled } from "../workflow/contract.ts";
import { table } from "./render.ts";

/** The work that a reconciliation did. */
export function reconciledText(reconciled: Reconciled): string {
  const { claims, copies, deletions, staged, parts, tasks } = reconciled;
  return table(
    ["WORK", "COUNT"],
    [
      ["claims released", String(claims)],
      ["copies removed", String(copies)],
      ["deletions continued", String(deletions)],
      ["staged data removed", String(staged)],
      ["parts removed", String(parts)],
      ["records of tasks removed", String(tasks)],
    ],
  );
}

/** The work of each kind of leftover, as a reconciliation would do it. */
const WORK: Readonly<Record<Leftover["kind"], string>> = {
  claim: "release claim",
  copy: "remove copy",
  deletion: "continue deletion",
  copy_removal: "continue removal of copy",
  staged: "remove staged data",
  transform: "undo transform",
  part: "remove part",
};

/** The work that a reconciliation would do. */
export function leftoversText({
  leftovers,
  left_out: leftOut,
  expired_tasks: tasks,
}: Leftovers): string {
  const rows = leftovers.map(({ kind, image_id: imageId, store, node, name }) =>
    [WORK[kind], imageId, store, node, name].map((cell) => cell ?? "-"),
  );
  return [
    rows.length === 0 ? "" : table(["WORK", "IMAGE", "STORE", "NODE", "NAME"], rows),
    leftOut === 0 ? "" : `and ${leftOut} more\n`,
    rows.length === 0 ? "nothing is left behind\n" : "",
    tasks === 0 ? "" : `${tasks} expired records of tasks\n`,
  ].join("");
}
