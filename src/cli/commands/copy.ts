import type { Command } from "commander";
import { addStoreChoice, imageIdArgument, storesOf, type StoreChoice } from "../arguments.ts";
import { UsageError } from "../failure.ts";
import { Interruption } from "../interruption.ts";
import { inSession, type Session } from "../session.ts";
import { answerAccepted, waitFor } from "./import.ts";

interface CopyOptions extends StoreChoice {
  readonly detach?: boolean;
}

/** `image copy <image-id>`: an active image into more stores. */
export function addCopyCommand(image: Command): void {
  const command = image
    .command("copy")
    .addArgument(imageIdArgument())
    .description("copy an active image into more stores, and wait; it stays active meanwhile")
    .option("--detach", "return once the copy is accepted")
    .action(inSession(copy));
  addStoreChoice(command);
}

async function copy(session: Session, imageId: string, options: CopyOptions): Promise<void> {
  if (options.store === undefined && options.allStores !== true) {
    throw new UsageError(
      "no store to copy to was named",
      "Name stores that lack the image (`--store NAME`), or take `--all-stores`.",
    );
  }
  const client = await session.client();
  const accepted = await client.copyImage(imageId, storesOf(options));
  if (options.detach === true) {
    answerAccepted(session, accepted, "active");
    return;
  }
  using interruption = new Interruption();
  await waitFor(session, client, accepted, interruption.signal);
}
