import type { Command } from "commander";
import { imageIdArgument } from "../arguments.ts";
import { fields } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `pause`, `resume`, `drop-store` and `cancel`: they steer a running import, by Temporal alone. */
export function addSteeringCommands(program: Command): void {
  program
    .command("pause")
    .addArgument(imageIdArgument())
    .description("stop the bytes of a running import and keep what was copied")
    .action(inSession(pause));
  program
    .command("resume")
    .addArgument(imageIdArgument())
    .description("go on with a paused import")
    .action(inSession(resume));
  program
    .command("drop-store")
    .addArgument(imageIdArgument())
    .description("let a running import go on without one of its stores; its copy there is removed")
    .requiredOption("--store <name>", "the store to go on without")
    .action(inSession(dropStore));
  program
    .command("cancel")
    .addArgument(imageIdArgument())
    .description("cancel a running import; it undoes itself")
    .option("--wait", "wait until nothing of it is left")
    .action(inSession(cancel));
}

async function pause(session: Session, imageId: string): Promise<void> {
  await (await session.client()).pauseImport(imageId);
  answer(session, imageId, "pausing");
}

async function resume(session: Session, imageId: string): Promise<void> {
  await (await session.client()).resumeImport(imageId);
  answer(session, imageId, "running");
}

async function dropStore(
  session: Session,
  imageId: string,
  { store }: { readonly store: string },
): Promise<void> {
  const stores = await (await session.client()).dropStore(imageId, store);
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
  await (await session.client()).cancelImport(imageId, { wait });
  answer(session, imageId, wait ? "cancelled" : "cancelling");
}

function answer(session: Session, imageId: string, status: string): void {
  session.answer({ image_id: imageId, status }, () =>
    fields([
      ["image_id", imageId],
      ["status", status],
    ]),
  );
}
