import type { Command } from "commander";
import type { ImageImportClient } from "../../client/image-import-client.ts";
import { IMPORT_FAILURES } from "../../domain/import-failure.ts";
import { imageArgument, imagesArgument } from "../arguments.ts";
import { onEachImage } from "../each-image.ts";
import { fields } from "../render.ts";
import { namedImage } from "../named-image.ts";
import { inSession, type Session } from "../session.ts";
import { withWordOfWaiting } from "../waiting-for-a-worker.ts";

/** `pause`, `resume`, `drop-store` and `cancel` steer a running import, with Temporal alone. */
export function addSteeringCommands(program: Command): void {
  program
    .command("pause")
    .addArgument(imagesArgument())
    .description("stop the byte steps of a running import, and keep its progress")
    .action(inSession(pause));
  program
    .command("resume")
    .addArgument(imagesArgument())
    .description("resume a paused import")
    .action(inSession(resume));
  program
    .command("drop-store")
    .addArgument(imageArgument())
    .description("continue a running import without one of its stores; its copy there is removed")
    .requiredOption("--store <name>", "the store to drop")
    .action(inSession(dropStore));
  program
    .command("cancel")
    .addArgument(imagesArgument())
    .description("cancel a running import; it undoes its work")
    .option("--wait", "wait until the undo has ended")
    .action(inSession(cancel));
}

async function pause(session: Session, references: readonly string[]): Promise<void> {
  await steer(session, references, "pausing", (client, imageId) => client.imports.pause(imageId));
}

async function resume(session: Session, references: readonly string[]): Promise<void> {
  await steer(session, references, "running", (client, imageId) => client.imports.resume(imageId));
}

async function dropStore(
  session: Session,
  reference: string,
  { store }: { readonly store: string },
): Promise<void> {
  const client = await session.client();
  const imageId = await namedImage(session, client, reference);
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
  references: readonly string[],
  { wait = false }: { readonly wait?: boolean },
): Promise<void> {
  await steer(session, references, wait ? "cancelled" : "cancelling", (client, imageId) =>
    client.imports.cancel(imageId, { wait }),
  );
}

/**
 * Sends a request to the imports of images. Exit code 5 if no worker has received one of them:
 * Temporal keeps it for a worker.
 *
 * @param status - of an import that has received it
 * @param request - returns false if no worker has received it
 */
async function steer(
  session: Session,
  references: readonly string[],
  status: string,
  request: (client: ImageImportClient, imageId: string) => Promise<boolean>,
): Promise<void> {
  const client = await session.client();
  const work = async (imageId: string) => {
    const isTaken = await request(client, imageId);
    if (!isTaken) process.exitCode = IMPORT_FAILURES.NotAcceptedYet.exitCode;
    return { image_id: imageId, status: isTaken ? status : "waiting" };
  };
  const text = (steered: Awaited<ReturnType<typeof work>>): string =>
    fields([
      ["image_id", steered.image_id],
      [
        "status",
        steered.status === "waiting"
          ? `requested (${status}), no worker has answered yet`
          : steered.status,
      ],
    ]);
  await withWordOfWaiting(session, () => onEachImage(session, client, references, { work, text }));
}
