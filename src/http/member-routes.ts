import { z } from "zod";
import { MEMBER_STATUSES } from "../domain/visibility.ts";
import { isAdmin } from "./caller.ts";
import { noContent, requireImage, type Routes, type SeenImage } from "./context.ts";
import { badRequest, forbidden, HttpFailure, notFound } from "./http-failure.ts";
import { requireFew } from "./image-attributes.ts";
import { described } from "./open-api.ts";
import { isOwn } from "./policy.ts";
import { wireMember } from "./wire-image.ts";

const LONGEST_MEMBER = 255;

const newMember = z.object({ member: z.string().max(LONGEST_MEMBER) });
const memberStatus = z.object({ status: z.enum(MEMBER_STATUSES) });

interface ImageRoute {
  Params: { id: string };
}
interface MemberRoute {
  Params: { id: string; member: string };
}

/** Members: the projects with which an image is shared. */
export const memberRoutes: Routes = (app, context) => {
  const { members } = context.client;

  app.post<ImageRoute>(
    "/v2/images/:id/members",
    described("Share an image with a project", { body: "new member", answers: { 200: "member" } }),
    async (request) => {
      const { member } = readBody(newMember, request.body);
      if (member.trim() === "") throw badRequest("Member can't be empty");
      const { id } = request.params;
      const { image, guard } = await requireImage(
        context,
        request,
        id,
        "add_member",
        requireShared,
      );
      const others = (await members.list(image.id)).filter((each) => each.member_id !== member);
      requireFew("members", others.length + 1);
      return wireMember(await members.add(image.id, member, guard));
    },
  );

  app.get<ImageRoute>(
    "/v2/images/:id/members",
    described("List the members of an image", { refusesBody: true, answers: { 200: "members" } }),
    async (request) => {
      const { id } = request.params;
      const seen = await requireImage(context, request, id, "get_image", requireShared);
      const all = await seenMembers(request.caller, seen);
      return { members: all.map(wireMember), schema: "/v2/schemas/members" };
    },
  );

  /** The members that a caller may see: a member sees itself alone. */
  async function seenMembers(
    caller: Parameters<typeof isOwn>[0],
    { image, judged }: Pick<SeenImage, "image" | "judged">,
  ) {
    const all = await members.list(image.id);
    if (isAdmin(caller) || isOwn(caller, judged)) return all;
    return all.filter(({ member_id: member }) => member === caller.project);
  }

  app.get<MemberRoute>(
    "/v2/images/:id/members/:member",
    described("Show a member of an image", { refusesBody: true, answers: { 200: "member" } }),
    async (request) => {
      const { id, member } = request.params;
      const seen = await requireImage(context, request, id, "get_image");
      const found = (await seenMembers(request.caller, seen)).find(
        ({ member_id: each }) => each === member,
      );
      if (found === undefined)
        throw notFound(`${member} not found in the member list of the image ${id}.`);
      return wireMember(found);
    },
  );

  app.put<MemberRoute>(
    "/v2/images/:id/members/:member",
    described("Accept or reject a shared image", {
      body: "member status",
      answers: { 200: "member" },
    }),
    async (request) => {
      const { id, member } = request.params;
      const { status } = readBody(memberStatus, request.body);
      const seen = await requireImage(context, request, id, "get_image");
      const known = (await seenMembers(request.caller, seen)).some(
        ({ member_id: each }) => each === member,
      );
      if (!known) throw notFound(`${member} not found in the member list of the image ${id}.`);
      const isItself = request.caller.roles.has("member") && request.caller.project === member;
      if (!isItself && !isAdmin(request.caller)) {
        throw forbidden("Not allowed to update members of this image: only the member itself may.");
      }
      return wireMember(await members.setStatus(seen.image.id, member, status, seen.guard));
    },
  );

  app.delete<MemberRoute>(
    "/v2/images/:id/members/:member",
    described("Stop sharing an image with a project", {
      refusesBody: true,
      answers: { 204: undefined },
    }),
    async (request, reply) => {
      const { id, member } = request.params;
      const { image, guard } = await requireImage(
        context,
        request,
        id,
        "delete_member",
        requireShared,
      );
      await members.remove(image.id, member, guard);
      return noContent(reply);
    },
  );
};

/** @throws HttpFailure 403 */
function requireShared({ id, visibility }: SeenImage["image"]): void {
  if (visibility === "shared") return;
  throw forbidden(`Not allowed with the members of image ${id}: Only shared images have members.`);
}

function readBody<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  if (body === undefined) throw badRequest("Body expected in request.");
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new HttpFailure(
    400,
    `Provided object does not match schema 'member': ${z.prettifyError(parsed.error)}`,
  );
}
