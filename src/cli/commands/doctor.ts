import type { Command } from "commander";
import { ImportError } from "../../domain/import-failure.ts";
import { table } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `doctor`: checks everything that imports depend on. */
export function addDoctorCommand(program: Command): void {
  program
    .command("doctor")
    .description("check everything that imports depend on, and report what is wrong")
    .action(inSession(doctor));
}

async function doctor(session: Session): Promise<void> {
  const { configPath, stack } = await session.location();
  const findings = await (
    await session.client()
  ).admin.doctor({ configPath, apiUrl: stack?.api_url ?? undefined });
  session.answer(findings, () =>
    table(
      ["CHECK", "STATE", "DETAIL"],
      findings.map(({ check, ok, detail }) => [check, ok ? "ok" : "WRONG", detail]),
    ),
  );
  const wrong = findings.filter(({ ok }) => !ok);
  if (wrong.length === 0) return;
  const hints = new Set(wrong.flatMap(({ hint }) => hint ?? []));
  throw new ImportError(
    wrong[0]?.code ?? "BadConfiguration",
    `Checks failed: ${wrong.map(({ check, detail }) => `${check}: ${detail}`).join("; ")}`,
    { hint: [...hints].join(" ") },
  );
}
