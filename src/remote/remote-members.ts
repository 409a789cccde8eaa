import type { MemberView } from "../client/image-view.ts";
import type { Service } from "../client/service.ts";
import type { MemberStatus } from "../domain/visibility.ts";
import type { ApiConnection } from "./api-connection.ts";

/** The members of images, over HTTP. See the methods of the same name of the client. */
export class RemoteMembers implements Pick<Service["members"], keyof Service["members"]> {
  readonly #api: ApiConnection;

  constructor(api: ApiConnection) {
    this.#api = api;
  }

  async list(imageId: string): Promise<MemberView[]> {
    const path = pathOf(imageId);
    const { members } = await this.#api.json<{ members: WireMember[] }>({ method: "GET", path });
    return members.map(viewOf);
  }

  async add(imageId: string, member: string): Promise<MemberView> {
    return viewOf(
      await this.#api.json({ method: "POST", path: pathOf(imageId), json: { member } }),
    );
  }

  async setStatus(imageId: string, member: string, status: MemberStatus): Promise<MemberView> {
    const path = pathOf(imageId, member);
    return viewOf(await this.#api.json({ method: "PUT", path, json: { status } }));
  }

  async remove(imageId: string, member: string): Promise<void> {
    await this.#api.json({ method: "DELETE", path: pathOf(imageId, member) });
  }
}

/** A member as Glance shows it: with times in whole seconds. */
type WireMember = MemberView & Readonly<Record<string, unknown>>;

function viewOf({ image_id, member_id, status, created_at, updated_at }: WireMember): MemberView {
  const [created, updated] = [created_at, updated_at].map((time) => new Date(time).toISOString());
  return { image_id, member_id, status, created_at: created ?? "", updated_at: updated ?? "" };
}

function pathOf(imageId: string, member?: string): `/${string}` {
  const members = `/v2/images/${imageId}/members` as const;
  return member === undefined ? members : `${members}/${encodeURIComponent(member)}`;
}
