import type { Command } from "commander";
import { countOf } from "../arguments.ts";
import { taskFields, taskTable } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `task list` and `task show`: the records of imports. */
export function addTaskCommands(program: Command): void {
  const task = program.command("task").description("records of imports");
  task
    .command("list")
    .alias("ls")
    .description("list tasks, newest first")
    .option("--image <image>", "only tasks of this image: id, beginning of an id, or name")
    .option("--limit <count>", "maximum number", countOf, 100)
    .action(inSession(list));
  task
    .command("show")
    .alias("get")
    .argument("<task>", "id, or beginning of an id")
    .description("show one task")
    .action(inSession(show));
}

async function list(
  session: Session,
  options: { readonly image?: string; readonly limit: number },
): Promise<void> {
  const client = await session.client();
  const imageId =
    options.image === undefined ? undefined : await client.images.resolve(options.image);
  const tasks = await client.admin.listTasks({ imageId, limit: options.limit });
  session.answer(tasks, () => taskTable(tasks));
}

async function show(session: Session, reference: string): Promise<void> {
  const { admin } = await session.client();
  const task = await admin.showTask(await admin.resolveTask(reference));
  session.answer(task, () => taskFields(task));
}
