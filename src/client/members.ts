import type { Queries } from "../db/connect.ts";
import type { MemberStatus } from "../domain/visibility.ts";
import type { Connections } from "./connections.ts";
import { memberView, type MemberView } from "./image-view.ts";
import { requireId } from "./require-id.ts";
import { askGuard, type WriteGuard } from "./write-guard.ts";

/**
 * The members of images: the projects to which their owners offer them. The deletion of an image
 * removes its members.
 */
export class Members {
  readonly #connections: Connections;

  /** @internal */
  constructor(connections: Connections) {
    this.#connections = connections;
  }

  /**
   * The members of an image, the first offered first.
   *
   * @throws ImportError `ImageNotFound`
   */
  async list(imageId: string): Promise<MemberView[]> {
    const { listMembers } = await this.#records(imageId);
    return (await this.#query((db) => listMembers(db, imageId))).map(memberView);
  }

  /**
   * One member of an image.
   *
   * @param member - the id of the project
   * @throws ImportError `ImageNotFound`, `MemberNotFound`
   */
  async show(imageId: string, member: string): Promise<MemberView> {
    const { findMember } = await this.#records(imageId);
    return memberView(await this.#query((db) => findMember(db, imageId, member)));
  }

  /**
   * Offers an image to a project; its answer is `pending`.
   *
   * @throws ImportError `BadRequest`; `ImageNotFound`; `ImageConflict` for an image that is not
   *   `shared`, or that is offered to it already
   */
  async add(imageId: string, member: string, guard?: WriteGuard): Promise<MemberView> {
    const { addMember } = await this.#records(imageId);
    return memberView(await this.#write(imageId, guard, (db) => addMember(db, imageId, member)));
  }

  /**
   * Records the answer of a member.
   *
   * @throws ImportError `ImageNotFound`, `MemberNotFound`
   */
  async setStatus(
    imageId: string,
    member: string,
    status: MemberStatus,
    guard?: WriteGuard,
  ): Promise<MemberView> {
    const { setMemberStatus } = await this.#records(imageId);
    return memberView(
      await this.#write(imageId, guard, (db) => setMemberStatus(db, imageId, member, status)),
    );
  }

  /**
   * Withdraws the offer of an image from a project.
   *
   * @throws ImportError `ImageNotFound`, `MemberNotFound`
   */
  async remove(imageId: string, member: string, guard?: WriteGuard): Promise<void> {
    const { removeMember } = await this.#records(imageId);
    await this.#write(imageId, guard, (db) => removeMember(db, imageId, member));
  }

  async #records(imageId: string) {
    requireId(imageId);
    return import("../db/member-records.ts");
  }

  async #query<T>(work: (db: Queries) => Promise<T>): Promise<T> {
    return (await this.#connections.catalogue()).query(work);
  }

  async #write<T>(
    imageId: string,
    guard: WriteGuard | undefined,
    work: (db: Queries) => Promise<T>,
  ): Promise<T> {
    return (await this.#connections.catalogue()).transaction(async (db) => {
      await askGuard(db, imageId, guard);
      return work(db);
    });
  }
}
