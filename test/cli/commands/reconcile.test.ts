import { describe, expect, it } from "vitest";
import {
  leftoversDocument,
  reconciledDocument,
} from "../../../src/cli/documents/reconcile-documents.ts";
import { SharedStack } from "../../support/shared-stack.ts";

const stack = new SharedStack();
const { commandLine } = stack;

describe("reconcile", () => {
  it("undoes what the run of a terminated import left", async () => {
    const { image_id: imageId } = await stack.runningImport();
    await stack.terminate(imageId);

    const reconciled = await commandLine.answer("reconcile");

    expect(reconciledDocument.safeParse(reconciled).error).toBeUndefined();
    expect(await stack.showImage(imageId)).toMatchObject({ status: "uploading" });
  });

  it("lists with --dry-run what it would do", async () => {
    const found = await commandLine.answer("reconcile", "--dry-run");

    expect(leftoversDocument.safeParse(found).error).toBeUndefined();
  });

  it.each([[["reconcile"]], [["reconcile", "--dry-run"]]])(
    "ends %j with 5 when no worker has answered",
    async (args) => {
      const idle = await stack.withoutWorker();

      const { exitCode, failure } = await idle.json(...args, "--timeout", "200ms");

      expect(exitCode).toBe(5);
      expect(failure).toMatchObject({ code: "NotAcceptedYet" });
    },
  );
});
