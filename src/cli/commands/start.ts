import { Option, type Command } from "commander";
import type { ImportMethod } from "../../domain/import-request.ts";
import {
  addAcceptPatience,
  addExpectation,
  addStoreChoice,
  addTransformChoice,
  expectationOf,
  imageArgument,
  storesOf,
  transformsOf,
  type AcceptPatience,
  type Expectation,
  type StoreChoice,
  type TransformChoice,
} from "../arguments.ts";
import { Interruption } from "../interruption.ts";
import { namedImage } from "../named-image.ts";
import { inSession, type Session } from "../session.ts";
import { startAndFollow } from "../start-and-follow.ts";

interface StartOptions extends StoreChoice, Expectation, TransformChoice, AcceptPatience {
  readonly method?: Exclude<ImportMethod, "copy-image">;
  readonly uri?: string;
  readonly detectFormat?: boolean;
  readonly wait?: boolean;
}

/** `start <image>`, also as `image start`. */
export function addStartCommand(parent: Command): void {
  const command = parent
    .command("start")
    .addArgument(imageArgument())
    .description("start the import of an image; return once it is accepted")
    .addOption(
      new Option(
        "--method <method>",
        "source of the data; default: glance-direct, the staged data",
      ).choices(["glance-direct", "web-download"]),
    )
    .option(
      "--uri <uri>",
      "place of the data: file:///… below the staging root (default: the upload), or the URL to download",
    )
    .option("--detect-format", "detect the disk format of an image that has none")
    .option("--wait", "wait until it has ended")
    .action(inSession(start));
  addAcceptPatience(command);
  addExpectation(command);
  addTransformChoice(command);
  addStoreChoice(command);
}

async function start(session: Session, reference: string, options: StartOptions): Promise<void> {
  // Only the configuration of this host names the key that encrypts a URL.
  const isDownload = options.method === "web-download";
  const client = isDownload ? await session.hostService() : await session.service();
  const imageId = await namedImage(session, client, reference);
  using interruption = new Interruption();
  const { signal } = interruption;
  const start = () =>
    client.imports.start(imageId, {
      ...storesOf(options),
      ...expectationOf(options),
      transforms: transformsOf(options),
      method: options.method,
      uri: options.uri,
      detectFormat: options.detectFormat,
      acceptTimeoutMs: options.acceptTimeout,
      signal,
    });
  await startAndFollow(session, { client, start, follows: options.wait === true, signal });
}
