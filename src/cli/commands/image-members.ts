import { Argument, Option, type Command } from "commander";
import type { MemberView } from "../../client/image-view.ts";
import { formatInstant } from "../../domain/instant.ts";
import { MEMBER_STATUSES, type MemberStatus } from "../../domain/visibility.ts";
import { imageArgument } from "../arguments.ts";
import { namedImage } from "../named-image.ts";
import { fields, table } from "../render.ts";
import { inSession, type Session } from "../session.ts";

/** `image member …`: the projects to which an image is offered. */
export function addImageMemberCommands(image: Command): void {
  const member = image
    .command("member")
    .description("the projects to which a shared image is offered");
  member
    .command("list")
    .alias("ls")
    .addArgument(imageArgument())
    .description("list the members of an image")
    .action(inSession(list));
  member
    .command("add")
    .addArgument(imageArgument())
    .addArgument(projectArgument())
    .description("offer a shared image to a project")
    .action(inSession(add));
  member
    .command("set")
    .addArgument(imageArgument())
    .addArgument(projectArgument())
    .description("record the answer of a member")
    .addOption(
      new Option("--status <status>", "answer of the member; lists show accepted images only")
        .choices(MEMBER_STATUSES)
        .makeOptionMandatory(),
    )
    .action(inSession(set));
  member
    .command("remove")
    .alias("rm")
    .addArgument(imageArgument())
    .addArgument(projectArgument())
    .description("withdraw the offer of an image from a project")
    .action(inSession(remove));
}

function projectArgument(): Argument {
  return new Argument("<project>", "id of the project");
}

async function list(session: Session, reference: string): Promise<void> {
  const client = await session.service();
  const members = await client.members.list(await namedImage(session, client, reference));
  session.answer(members, () =>
    table(
      ["MEMBER", "STATUS", "CREATED", "UPDATED"],
      members.map(({ member_id, status, created_at, updated_at }) => [
        member_id,
        status,
        timeOf(created_at),
        timeOf(updated_at),
      ]),
    ),
  );
}

async function add(session: Session, reference: string, project: string): Promise<void> {
  const client = await session.service();
  const imageId = await namedImage(session, client, reference);
  const member = await client.members.add(imageId, project);
  session.answer(member, () => memberFields(member));
}

async function set(
  session: Session,
  reference: string,
  project: string,
  { status }: { readonly status: MemberStatus },
): Promise<void> {
  const client = await session.service();
  const imageId = await namedImage(session, client, reference);
  const member = await client.members.setStatus(imageId, project, status);
  session.answer(member, () => memberFields(member));
}

async function remove(session: Session, reference: string, project: string): Promise<void> {
  const client = await session.service();
  const imageId = await namedImage(session, client, reference);
  await client.members.remove(imageId, project);
  session.answer({ image_id: imageId, member_id: project, status: "removed" }, () =>
    fields([
      ["image_id", imageId],
      ["member_id", project],
      ["status", "removed"],
    ]),
  );
}

function memberFields(member: MemberView): string {
  return fields([
    ["image_id", member.image_id],
    ["member_id", member.member_id],
    ["status", member.status],
    ["created_at", timeOf(member.created_at)],
    ["updated_at", timeOf(member.updated_at)],
  ]);
}

function timeOf(time: string): string {
  return formatInstant(new Date(time), new Date());
}
