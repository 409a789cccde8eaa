import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { requireClaim } from "../../src/db/claim-guard.ts";
import { releaseClaim } from "../../src/db/claim-records.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import { useCatalogue, type ClaimedImage } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

async function release(claim: ClaimedImage): Promise<void> {
  await catalogue.database.transaction((db) =>
    releaseClaim(db, claim, { message: "Error: x" }, []),
  );
}

describe("requireClaim()", () => {
  it.each(["importing", "saving"] as const)(
    "succeeds while this import holds an image in status %s",
    async (status) => {
      const claim = await catalogue.claimedImage();
      await catalogue.execute(
        sql`UPDATE images SET status = ${status} WHERE id = ${claim.imageId}`,
      );

      await expect(
        catalogue.database.transaction((db) => requireClaim(db, claim)),
      ).resolves.toBeUndefined();
    },
  );

  it.each([
    [
      "was deleted",
      "pending_delete",
      (claim: ClaimedImage) =>
        catalogue.database.transaction((db) => beginDeletion(db, claim.imageId)),
    ],
    ["was let go", "uploading", release],
    ["was taken", "importing", (claim: ClaimedImage) => catalogue.claim(claim.imageId)],
  ])("fails when the image %s", async (_, status, happen) => {
    const claim = await catalogue.claimedImage();
    await happen(claim);

    expect(
      await failureOf(catalogue.database.transaction((db) => requireClaim(db, claim))),
    ).toMatchObject({
      code: "ImportLost",
      message: `Image "${claim.imageId}" was deleted or taken while it was imported (it is ${status})`,
    });
  });

  it("fails when the image does not exist", async () => {
    const imageId = randomUUID();

    expect(
      await failureOf(
        catalogue.database.transaction((db) => requireClaim(db, { imageId, epoch: 1 })),
      ),
    ).toMatchObject({
      code: "ImportLost",
      message: `Image "${imageId}" was deleted or taken while it was imported (it is gone)`,
    });
  });
});
