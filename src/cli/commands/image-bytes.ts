import type { Command } from "commander";
import type { StagedImage } from "../../client/stage-image.ts";
import type { VerifiedLocation } from "../../client/read-image.ts";
import { ImportError } from "../../domain/import-failure.ts";
import type { Report } from "../../domain/report.ts";
import { imageArgument } from "../arguments.ts";
import { settleEach } from "../at-once.ts";
import { failuresOf, resolveAll } from "../each-image.ts";
import { SeveralFailed, shownFailure, UsageError, type FailedItem } from "../failure.ts";
import { Interruption } from "../interruption.ts";
import { exactSize, fields, imageFields, table } from "../render.ts";
import { imageToRemoveFrom, namedImage } from "../named-image.ts";
import { inSession, type Session } from "../session.ts";
import { showingWork, STAGING } from "../shown-work.ts";
import { requireReadable, STDIN } from "../standard-input.ts";

interface StageOptions {
  readonly adopt?: boolean;
  readonly uri?: string;
  readonly replace?: boolean;
}

/** The commands of `image` that read or write bytes on this host. */
export function addImageByteCommands(image: Command): void {
  image
    .command("stage")
    .addArgument(imageArgument())
    .argument("[file]")
    .description("stage the data of a queued image: a file, or - for standard input")
    .option("--adopt", "adopt a file below the staging root; it is removed as an upload is")
    .option("--uri <uri>", "with --adopt: file:///… below the staging root")
    .option("--replace", "replace data that is already staged")
    .action(inSession(stage));
  image
    .command("unstage")
    .addArgument(imageArgument())
    .description("remove the staged data of an image that no import holds; it is queued again")
    .action(inSession(unstage));
  image
    .command("download")
    .addArgument(imageArgument())
    .description("write the bytes of an active image to a file, or to standard output")
    .option(
      "-o, --output <file>",
      "file to write; it must not exist, and appears only complete and verified",
    )
    .action(inSession(download));
  image
    .command("verify")
    .argument("[image...]", "id, beginning of an id, or name")
    .description("read every copy, and compare its bytes with the recorded digests")
    .option("--all", "all published images")
    .action(inSession(verify));
}

async function stage(
  session: Session,
  reference: string,
  file: string | undefined,
  options: StageOptions,
): Promise<void> {
  requireStageUse(file, options);
  const staged =
    file === undefined
      ? await adopt(session, reference, options.uri)
      : await stageFrom(session, reference, { file, replace: options.replace ?? false });
  session.answer(staged, () => stagedFields(staged));
}

function requireStageUse(
  file: string | undefined,
  { adopt = false, replace = false, uri }: StageOptions,
): void {
  if (file === undefined && !adopt) {
    throw new UsageError("missing required argument 'file'", "Name a file, -, or --adopt.");
  }
  if (file !== undefined && (adopt || uri !== undefined)) {
    throw new UsageError(
      "a file is either staged or adopted, not both",
      "Leave out the file, or --adopt and --uri, which name a file below the staging root.",
    );
  }
  if (file === undefined && replace) {
    throw new UsageError(
      "an adopted file does not replace staged data",
      "Leave out --replace, and remove the staged data first: `image-import image unstage <image>`.",
    );
  }
  if (file !== undefined) requireReadable(file);
}

async function adopt(
  session: Session,
  reference: string,
  uri: string | undefined,
): Promise<StagedImage> {
  const client = await session.hostClient();
  return client.files.adopt(await namedImage(session, client, reference), uri);
}

async function stageFrom(
  session: Session,
  reference: string,
  { file, replace }: { readonly file: string; readonly replace: boolean },
): Promise<StagedImage> {
  const client = await session.hostService();
  const imageId = await namedImage(session, client, reference);
  using interruption = new Interruption();
  const { signal } = interruption;
  return await showingWork(session.progress, STAGING, (report) =>
    client.files.stage(imageId, file === STDIN ? process.stdin : file, { replace, signal, report }),
  );
}

function stagedFields(staged: StagedImage): string {
  return fields([
    ["image_id", staged.image_id],
    ["status", staged.status],
    ["path", staged.path],
    ["size", exactSize(staged.size)],
    ["checksum", staged.checksum],
    [staged.os_hash_algo ?? "os_hash_value", staged.os_hash_value],
  ]);
}

async function unstage(session: Session, reference: string): Promise<void> {
  const client = await session.hostService();
  const imageId = await imageToRemoveFrom(client, reference, "unstage");
  session.about({ image_id: imageId });
  await client.files.unstage(imageId);
  const image = await client.images.show(imageId);
  session.answer(image, () => imageFields(image));
}

async function download(
  session: Session,
  reference: string,
  { output }: { readonly output?: string },
): Promise<void> {
  if (output === undefined && session.isJson) {
    throw new UsageError(
      "standard output cannot take both the bytes and the document of --json",
      "Name a file: `--output FILE`.",
    );
  }
  const client = await session.hostService();
  const imageId = await namedImage(session, client, reference);
  using interruption = new Interruption({ onlyShows: true });
  const { signal } = interruption;
  const work = { label: "downloading", done: "downloaded" };
  const image = await showingWork(session.progress, work, (report) =>
    client.files.download(imageId, {
      to: output ?? process.stdout,
      signal,
      report,
      onDamage: ({ store, damage }) => {
        // For a program, standard error holds one document at most; `image show` names the damage.
        if (session.isJson) return;
        session.progress.warn(
          `Warning: the copy in store "${store}" is damaged (${damage}); another copy is read if there is one.`,
        );
      },
    }),
  ).catch((error: unknown) => {
    if (!signal.aborted) throw error;
    throw new ImportError("Interrupted", `The download of image "${imageId}" was interrupted`);
  });
  if (output !== undefined) {
    session.answer({ ...image, file: output }, () => `${imageFields(image)}written to ${output}\n`);
  }
}

async function verify(
  session: Session,
  references: readonly string[],
  { all = false }: { readonly all?: boolean },
): Promise<void> {
  if ((references.length === 0) !== all) {
    throw new UsageError("name either images or --all", "Name one image or more, or give --all.");
  }
  const client = await session.hostClient();
  const ids = all ? await client.files.publishedIds() : await resolveAll(client, references);
  const ends = await verifyEach(session, ids, async (imageId, report) =>
    client.files.verify(imageId, { report }).catch((error: unknown) => {
      // The image was deleted after the list was read.
      if (all && error instanceof ImportError && error.code === "ImageNotFound") return [];
      throw error;
    }),
  );
  const [only, ...more] = ends;
  if (only?.status === "rejected" && more.length === 0) throw only.reason;
  const locations = ends.flatMap((end) => (end.status === "fulfilled" ? end.value : []));
  session.answer(locations, () => locationTable(locations));
  const wrong = locations.filter(({ ok }) => !ok);
  const unread = [...failuresOf(ids, ends).values()];
  if (unread.length > 0) throw new SeveralFailed([...unread, ...differing(wrong)], ids.length);
  if (wrong.length > 0) throw mismatch(wrong);
}

/** Reads image after image. One that cannot be read does not stop the others. */
async function verifyEach(
  session: Session,
  ids: readonly string[],
  verifyOne: (imageId: string, report: Report) => Promise<VerifiedLocation[]>,
) {
  const work = { label: "verifying", done: "read" };
  let number = 0;
  return settleEach(ids, 1, async (imageId) => {
    number += 1;
    if (ids.length > 1) {
      session.progress.note(`image ${String(number)} of ${String(ids.length)}: ${imageId}`);
    }
    return showingWork(session.progress, work, (report) => verifyOne(imageId, report));
  });
}

function differing(wrong: readonly VerifiedLocation[]): FailedItem[] {
  const ids = new Set(wrong.map(({ image_id: imageId }) => imageId));
  return [...ids].map((imageId) => ({
    image_id: imageId,
    failure: shownFailure(mismatch(wrong.filter(({ image_id: id }) => id === imageId))),
  }));
}

function locationTable(locations: readonly VerifiedLocation[]): string {
  return table(
    ["IMAGE", "STORE", "RESULT", "URL"],
    locations.map(({ image_id: imageId, store, ok, reason, url }) => [
      imageId,
      store,
      ok ? "same" : (reason ?? "differs"),
      url,
    ]),
  );
}

function mismatch(wrong: readonly VerifiedLocation[]): ImportError {
  const named = wrong.map(
    ({ image_id: imageId, store, reason }) => `${imageId} in "${store}": ${reason ?? "differs"}`,
  );
  return new ImportError(
    "DigestMismatch",
    `The stored bytes differ from the recorded digests: ${named.join("; ")}`,
    {
      hint: "Keep a good copy of the data, and import it as a new image.",
    },
  );
}
