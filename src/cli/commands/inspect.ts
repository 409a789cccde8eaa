import type { Command } from "commander";
import type { Verdict } from "../../client/inspect-file.ts";
import { exactSize, fields, table } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `inspect`: the verdict on a file, without a server. */
export function addInspectCommand(program: Command): void {
  program
    .command("inspect <file>")
    .description("check a disk image as an import would, and report what fails; needs no server")
    .action(inSession(inspect));
}

async function inspect(session: Session, file: string): Promise<void> {
  const { assertSafe, inspectFile } = await import("../../client/inspect-file.ts");
  const verdict = await inspectFile(file, (await session.config())?.formatPolicy);
  const { format, virtualSizeBytes, sizeBytes, safe, checks, tolerated } = verdict;
  session.answer(
    { format, virtual_size: virtualSizeBytes, size: sizeBytes, safe, checks, tolerated },
    () => verdictText(verdict),
  );
  assertSafe(verdict);
}

function verdictText({ format, virtualSizeBytes, sizeBytes, safe, checks, tolerated }: Verdict) {
  const about = fields([
    ["format", format],
    ["virtual_size", exactSize(virtualSizeBytes)],
    ["size", exactSize(sizeBytes)],
    ["safe", safe ? "yes" : "NO"],
  ]);
  const rows = Object.entries(checks).map(([check, result]) => [
    check,
    result,
    tolerated.includes(check) ? "(tolerated)" : "",
  ]);
  return `${about}\n${table(["CHECK", "RESULT", ""], rows)}`;
}
