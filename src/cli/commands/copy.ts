import type { Command } from "commander";
import {
  addAcceptPatience,
  addStoreChoice,
  imageArgument,
  storesOf,
  type AcceptPatience,
  type StoreChoice,
} from "../arguments.ts";
import { UsageError } from "../failure.ts";
import { Interruption } from "../interruption.ts";
import { namedImage } from "../named-image.ts";
import { inSession, type Session } from "../session.ts";
import { startAndFollow } from "../start-and-follow.ts";

interface CopyOptions extends StoreChoice, AcceptPatience {
  readonly detach?: boolean;
}

/** `image copy <image>`: an active image into more stores. */
export function addCopyCommand(image: Command): void {
  const command = image
    .command("copy")
    .addArgument(imageArgument())
    .description("copy an active image into more stores, and wait; it stays active meanwhile")
    .option("--detach", "return once the copy is accepted")
    .action(inSession(copy));
  addAcceptPatience(command);
  addStoreChoice(command);
}

async function copy(session: Session, reference: string, options: CopyOptions): Promise<void> {
  if (options.store === undefined && options.allStores !== true) {
    throw new UsageError(
      "no store to copy to was named",
      "Name stores that lack the image (`--store NAME`), or take `--all-stores`.",
    );
  }
  const client = await session.service();
  const imageId = await namedImage(session, client, reference);
  using interruption = new Interruption();
  const { signal } = interruption;
  const start = () =>
    client.imports.copy(imageId, {
      ...storesOf(options),
      acceptTimeoutMs: options.acceptTimeout,
      signal,
    });
  const follows = options.detach !== true;
  await startAndFollow(session, { client, start, follows, signal, status: "active" });
}
