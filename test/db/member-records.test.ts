import { describe, expect, it } from "vitest";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import { findImage } from "../../src/db/image-records.ts";
import {
  addMember,
  findMember,
  listMembers,
  removeMember,
  setMemberStatus,
  type MemberRow,
} from "../../src/db/member-records.ts";
import type { MemberStatus } from "../../src/domain/visibility.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

async function add(imageId: string, member: string): Promise<MemberRow> {
  return catalogue.database.transaction((db) => addMember(db, imageId, member));
}

async function set(imageId: string, member: string, status: MemberStatus): Promise<MemberRow> {
  return catalogue.database.transaction((db) => setMemberStatus(db, imageId, member, status));
}

async function remove(imageId: string, member: string): Promise<void> {
  await catalogue.database.transaction((db) => removeMember(db, imageId, member));
}

async function membersOf(imageId: string): Promise<string[]> {
  const rows = await catalogue.database.query((db) => listMembers(db, imageId));
  return rows.map(({ member, status }) => `${member} ${status}`);
}

describe("the members of an image", () => {
  it("are pending until they answer", async () => {
    const imageId = await catalogue.newImage();

    const added = await add(imageId, "ann");
    await add(imageId, "bob");
    const answered = await set(imageId, "ann", "accepted");

    expect(added).toMatchObject({ imageId, member: "ann", status: "pending" });
    expect(answered).toMatchObject({ status: "accepted", createdAt: added.createdAt });
    expect(answered.updatedAt.getTime()).toBeGreaterThan(added.updatedAt.getTime());
    expect(await membersOf(imageId)).toEqual(["ann accepted", "bob pending"]);
    expect(await catalogue.database.query((db) => findMember(db, imageId, "ann"))).toEqual(
      answered,
    );
  });

  it("are added once, also by many at the same time", async () => {
    const imageId = await catalogue.newImage();

    const ends = await Promise.allSettled(Array.from({ length: 8 }, () => add(imageId, "ann")));

    expect(ends.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await failureOf(add(imageId, "ann"))).toMatchObject({
      code: "ImageConflict",
      message: `Cannot share image "${imageId}": "ann" is a member of it already`,
    });
    expect(await membersOf(imageId)).toEqual(["ann pending"]);
  });

  it.each(["public", "community", "private"] as const)(
    "are refused for an image that is %s",
    async (visibility) => {
      const imageId = await catalogue.newImage({ visibility });

      expect(await failureOf(add(imageId, "ann"))).toMatchObject({ code: "ImageConflict" });
    },
  );

  it("are removed, and then not found", async () => {
    const imageId = await catalogue.newImage();
    const notFound = {
      code: "MemberNotFound",
      message: `Image "${imageId}" has no member "ann"`,
    };
    await add(imageId, "ann");

    await remove(imageId, "ann");

    const { database } = catalogue;
    expect(await failureOf(remove(imageId, "ann"))).toMatchObject(notFound);
    expect(await failureOf(set(imageId, "ann", "accepted"))).toMatchObject(notFound);
    expect(await failureOf(database.query((db) => findMember(db, imageId, "ann")))).toMatchObject(
      notFound,
    );
  });

  it("refuse an id that is not one", async () => {
    const imageId = await catalogue.newImage();

    expect(await failureOf(add(imageId, ""))).toMatchObject({ code: "BadRequest" });
    expect(await failureOf(add(imageId, "x".repeat(256)))).toMatchObject({ code: "BadRequest" });
  });

  it("go with the deletion of the image, and none is added to it then", async () => {
    const imageId = await catalogue.newImage();
    await add(imageId, "ann");

    await catalogue.database.transaction((db) => beginDeletion(db, imageId));

    expect(await membersOf(imageId)).toEqual([]);
    expect(await failureOf(add(imageId, "bob"))).toMatchObject({ code: "ImageNotFound" });
  });

  it("are shown with the image, to the project that asks", async () => {
    const imageId = await catalogue.newImage();
    await add(imageId, "ann");
    await set(imageId, "ann", "rejected");
    const membershipOf = async (project: string | null) =>
      (await catalogue.database.query((db) => findImage(db, imageId, project))).membership;

    expect(await membershipOf("ann")).toBe("rejected");
    expect(await membershipOf("bob")).toBeNull();
    expect(await membershipOf(null)).toBeNull();
  });
});
