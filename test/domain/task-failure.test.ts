import { describe, expect, it } from "vitest";
import { abandonedTask, taskFailure, textOfTask } from "../../src/domain/task-failure.ts";

describe("taskFailure()", () => {
  it.each([
    [{ code: "NoSpace", step: "store", store: "fast" }, 'Error: NoSpace: store "fast": it is full'],
    [{ code: "NoSpace", step: "save" }, "Error: NoSpace: save: it is full"],
    [{ code: "NoSpace" }, "Error: NoSpace: it is full"],
  ])("composes the message of %j", (details, message) => {
    expect(taskFailure(details, "it is full")).toEqual({ message, failure: details });
  });
});

describe("abandonedTask()", () => {
  it("has its code in the message and beside it", () => {
    expect(abandonedTask("its run was ended without an undo")).toEqual({
      message: "Error: ImportAbandoned: its run was ended without an undo",
      failure: { code: "ImportAbandoned" },
    });
  });
});

describe("textOfTask()", () => {
  it.each([
    ["leaves out the code", "NoSpace", "Error: NoSpace: it is full", "it is full"],
    [
      "keeps a message with another code",
      "Timeout",
      "Error: NoSpace: full",
      "Error: NoSpace: full",
    ],
    ["keeps a message without a code", "Unknown", "ended by hand", "ended by hand"],
  ])("%s", (_, code, message, text) => {
    expect(textOfTask(message, code)).toBe(text);
  });
});
