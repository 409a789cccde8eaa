import { describe, expect, it, onTestFinished } from "vitest";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import { useCatalogue } from "../support/catalogue.ts";

const catalogue = useCatalogue();

/** A client of the catalogue alone. */
async function connect(): Promise<ImageImportClient> {
  const client = await ImageImportClient.connect({ databaseUrl: catalogue.url });
  onTestFinished(() => client.close());
  return client;
}

describe("the images of a client", () => {
  it("are changed by what a function decides while they are locked", async () => {
    const { images } = await connect();
    const { id } = await images.create({ properties: { count: "0" } });
    const countUp = () =>
      images.change(id, ({ properties: { count } }) => ({
        setProperties: { count: String(Number(count) + 1) },
      }));

    await Promise.all(Array.from({ length: 12 }, countUp));
    const refusal = images.change(id, () => {
      throw new TypeError("not this one");
    });

    await expect(refusal).rejects.toThrow("not this one");
    expect((await images.show(id)).properties).toEqual({ count: "12" });
  });

  it("are shown with the membership of a project", async () => {
    const { images, members } = await connect();
    const { id } = await images.create({});
    await members.add(id, "ann");
    await members.setStatus(id, "ann", "rejected");

    expect(await images.showFor(id, "ann")).toEqual({
      image: await images.show(id),
      membership: "rejected",
    });
    expect((await images.showFor(id, "bob")).membership).toBeNull();
    expect(await members.show(id, "ann")).toMatchObject({ member_id: "ann", status: "rejected" });
    await members.remove(id, "ann");
    expect(await members.list(id)).toEqual([]);
  });
});
