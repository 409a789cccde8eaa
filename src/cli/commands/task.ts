import { Option, type Command } from "commander";
import { TASK_SORT_KEYS } from "../../domain/image-filter.ts";
import { TASK_STATUSES, type TaskStatus } from "../../domain/task-status.ts";
import { taskColumns, USUAL_TASK_COLUMNS } from "../image-columns.ts";
import { addListOptions, answerList, pageOf, type ListOptions } from "../list-options.ts";
import { taskFields } from "../render.ts";
import { inSession, type Session } from "../session.ts";

interface TaskListOptions extends ListOptions<(typeof TASK_SORT_KEYS)[number]> {
  readonly image?: string;
  readonly status?: TaskStatus;
  readonly owner?: string;
}

/** `task list` and `task show`: the records of imports. */
export function addTaskCommands(program: Command): void {
  const task = program.command("task").description("records of imports");
  const listCommand = task
    .command("list")
    .alias("ls")
    .description("list tasks, newest first")
    .option("--image <image>", "only tasks of this image: id, beginning of an id, or name")
    .addOption(new Option("--status <status>", "only tasks of this status").choices(TASK_STATUSES))
    .option("--owner <owner>", "only tasks of this owner")
    .action(inSession(list));
  addListOptions(listCommand, TASK_SORT_KEYS, taskColumns());
  task
    .command("show")
    .alias("get")
    .argument("<task>", "id, or beginning of an id")
    .description("show one task")
    .action(inSession(show));
}

async function list(session: Session, options: TaskListOptions): Promise<void> {
  const { admin, images } = await session.service();
  const { image, marker, status, owner } = options;
  const filter = {
    ...pageOf(options),
    marker: marker === undefined ? undefined : await admin.resolveTask(marker),
    imageId: image === undefined ? undefined : await images.resolve(image),
    status,
    owner,
  };
  await answerList(
    session,
    {
      what: "tasks",
      columns: taskColumns(),
      usual: USUAL_TASK_COLUMNS,
      pages: (page) => admin.taskPages({ ...filter, ...page }),
    },
    options,
  );
}

async function show(session: Session, reference: string): Promise<void> {
  const { admin } = await session.service();
  const taskId = await admin.resolveTask(reference);
  session.about({ task_id: taskId });
  const task = await admin.showTask(taskId);
  session.answer(task, () => taskFields(task));
}
