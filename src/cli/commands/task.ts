import type { Command } from "commander";
import { countOf, idOf } from "../arguments.ts";
import { taskFields, taskTable } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `task list` and `task show`: the records of imports. */
export function addTaskCommands(program: Command): void {
  const task = program.command("task").description("records of imports");
  task
    .command("list")
    .description("list tasks, newest first")
    .option("--image <image-id>", "only tasks of this image", idOf)
    .option("--limit <count>", "maximum number", countOf, 100)
    .action(inSession(list));
  task
    .command("show")
    .argument("<task-id>", "", idOf)
    .description("show one task")
    .action(inSession(show));
}

async function list(
  session: Session,
  options: { readonly image?: string; readonly limit: number },
): Promise<void> {
  const client = await session.client();
  const tasks = await client.admin.listTasks({ imageId: options.image, limit: options.limit });
  session.answer(tasks, () => taskTable(tasks));
}

async function show(session: Session, taskId: string): Promise<void> {
  const task = await (await session.client()).admin.showTask(taskId);
  session.answer(task, () => taskFields(task));
}
