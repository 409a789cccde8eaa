import type { Command } from "commander";
import { IMPORT_FAILURES } from "../../domain/import-failure.ts";
import { imageIdArgument } from "../arguments.ts";
import { fields } from "../render.ts";
import { inSession, type Session } from "../session.ts";
import { withWordOfWaiting } from "../waiting-for-a-worker.ts";

/** `pause`, `resume`, `drop-store` and `cancel` steer a running import, with Temporal alone. */
export function addSteeringCommands(program: Command): void {
  program
    .command("pause")
    .addArgument(imageIdArgument())
    .description("stop the byte steps of a running import, and keep its progress")
    .action(inSession(pause));
  program
    .command("resume")
    .addArgument(imageIdArgument())
    .description("resume a paused import")
    .action(inSession(resume));
  program
    .command("drop-store")
    .addArgument(imageIdArgument())
    .description("continue a running import without one of its stores; its copy there is removed")
    .requiredOption("--store <name>", "the store to drop")
    .action(inSession(dropStore));
  program
    .command("cancel")
    .addArgument(imageIdArgument())
    .description("cancel a running import; it undoes its work")
    .option("--wait", "wait until the undo has ended")
    .action(inSession(cancel));
}

async function pause(session: Session, imageId: string): Promise<void> {
  const client = await session.client();
  answer(
    session,
    imageId,
    "pausing",
    await withWordOfWaiting(session, () => client.imports.pause(imageId)),
  );
}

async function resume(session: Session, imageId: string): Promise<void> {
  const client = await session.client();
  answer(
    session,
    imageId,
    "running",
    await withWordOfWaiting(session, () => client.imports.resume(imageId)),
  );
}

async function dropStore(
  session: Session,
  imageId: string,
  { store }: { readonly store: string },
): Promise<void> {
  const client = await session.client();
  const stores = await withWordOfWaiting(session, () => client.imports.dropStore(imageId, store));
  session.answer({ image_id: imageId, dropped: store, stores }, () =>
    fields([
      ["image_id", imageId],
      ["dropped", store],
      ["stores", stores.join(", ")],
    ]),
  );
}

async function cancel(
  session: Session,
  imageId: string,
  { wait = false }: { readonly wait?: boolean },
): Promise<void> {
  const client = await session.client();
  const isTaken = await withWordOfWaiting(session, () => client.imports.cancel(imageId, { wait }));
  answer(session, imageId, wait ? "cancelled" : "cancelling", isTaken);
}

/** Exit code 5 if no worker has received the request: Temporal keeps it for one. */
function answer(session: Session, imageId: string, status: string, isTaken: boolean): void {
  session.answer({ image_id: imageId, status: isTaken ? status : "waiting" }, () =>
    fields([
      ["image_id", imageId],
      ["status", isTaken ? status : `requested (${status}), no worker has answered yet`],
    ]),
  );
  if (!isTaken) process.exitCode = IMPORT_FAILURES.NotAcceptedYet.exitCode;
}
