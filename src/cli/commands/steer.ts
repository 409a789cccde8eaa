import type { Command } from "commander";
import { imageArgument, imagesArgument } from "../arguments.ts";
import { onEachImage } from "../each-image.ts";
import type { End } from "../import-event.ts";
import { fields } from "../render.ts";
import { imageToRemoveFrom } from "../named-image.ts";
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
  const { imports } = await session.service();
  await steer(session, references, "pausing", { request: (id) => imports.pause(id) });
}

async function resume(session: Session, references: readonly string[]): Promise<void> {
  const { imports } = await session.service();
  await steer(session, references, "running", { request: (id) => imports.resume(id) });
}

async function dropStore(
  session: Session,
  reference: string,
  { store }: { readonly store: string },
): Promise<void> {
  const client = await session.service();
  const imageId = await imageToRemoveFrom(client, reference, "drop a store of");
  session.about({ image_id: imageId });
  const stores = await withWordOfWaiting(
    session,
    () => client.imports.dropStore(imageId, store),
    "remove the copy",
  );
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
  const client = await session.service();
  const request = (imageId: string) => client.imports.cancel(imageId, { wait });
  const resolve = (reference: string) =>
    imageToRemoveFrom(client, reference, "cancel the import of");
  const purpose = wait ? "finish the undo" : undefined;
  await steer(session, references, wait ? "cancelled" : "cancelling", {
    request,
    resolve,
    purpose,
  });
}

interface Steered {
  readonly image_id: string;
  /** `waiting` if no worker has received the request. */
  readonly status: string;
}

interface SteeringRequest {
  /** Returns false if no worker has received the request. */
  readonly request: (imageId: string) => Promise<boolean>;
  /** Finds the image that a reference means. Default: `client.images.resolve` */
  readonly resolve?: (reference: string) => Promise<string>;
  /** The work after which a worker answers. Default: none */
  readonly purpose?: string | undefined;
}

/**
 * Sends a request to the imports of images. Exit code 5 if no worker has received one of them:
 * Temporal keeps it for a worker.
 *
 * @param status - the status of an import that has received the request
 */
async function steer(
  session: Session,
  references: readonly string[],
  status: string,
  { request, resolve, purpose }: SteeringRequest,
): Promise<void> {
  const client = await session.service();
  const work = async (imageId: string): Promise<Steered> => {
    const isTaken = await request(imageId);
    return { image_id: imageId, status: isTaken ? status : "waiting" };
  };
  const endOf = (steered: Steered): End => (steered.status === "waiting" ? "waiting" : "succeeded");
  const text = (steered: Steered): string =>
    fields([
      ["image_id", steered.image_id],
      [
        "status",
        steered.status === "waiting"
          ? `requested (${status}), no worker has answered yet`
          : steered.status,
      ],
    ]);
  await withWordOfWaiting(
    session,
    () => onEachImage(session, client, references, { work, text, resolve, endOf }),
    purpose,
  );
}
