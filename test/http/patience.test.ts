import { expect, test, vi } from "vitest";
import { ImportError, UnlistedFailure } from "../../src/domain/import-failure.ts";
import { Patience } from "../../src/remote/patience.ts";
import { failureOf } from "../support/failure-of.ts";

// The waits of 31 attempts take minutes.
vi.mock("node:timers/promises", () => ({ setTimeout: async () => undefined }));

const AWAY = new ImportError("ApiUnavailable", "The API does not answer");
const REFUSAL = new ImportError("DatabaseUnavailable", "Postgres does not answer");

/** A transfer that fails again and again. */
async function fails(patience: Patience, failure: Error, times: number): Promise<void> {
  for (let each = 0; each < times; each += 1) await patience.wait(failure);
}

test("a transfer waits for its API without a limit, and then for the database", async () => {
  const notes: string[] = [];
  const patience = new Patience("it continues", { note: (text) => notes.push(text) });

  await fails(patience, AWAY, 100);
  await fails(patience, REFUSAL, 30);

  expect((await failureOf(patience.wait(REFUSAL))).code).toBe("DatabaseUnavailable");
  expect(notes).toEqual(["The API does not answer; it continues"]);
});

test("only refusals in a row end a transfer", async () => {
  const notes: string[] = [];
  const patience = new Patience("it continues", { note: (text) => notes.push(text) });

  await fails(patience, REFUSAL, 30);
  await fails(patience, AWAY, 1);
  await fails(patience, REFUSAL, 30);
  patience.renew();
  await fails(patience, REFUSAL, 30);

  expect((await failureOf(patience.wait(REFUSAL))).code).toBe("DatabaseUnavailable");
  expect(notes).toEqual(["The API does not answer; it continues"]);
});

test.each([
  new ImportError("ImageNotFound", "There is no such image"),
  new UnlistedFailure("InternalError", "The service has a fault"),
])("a final answer ends a transfer at once: %s", async (failure) => {
  const patience = new Patience("it continues", { note: () => undefined });

  await expect(patience.wait(failure)).rejects.toBe(failure);
});
