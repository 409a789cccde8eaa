import { CommanderError } from "commander";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { renderFailure, shownFailure, UsageError } from "../../src/cli/failure.ts";
import { IMPORT_FAILURES, ImportError, UnlistedFailure } from "../../src/domain/import-failure.ts";

/** Sets IMAGE_IMPORT_DEBUG for the running test; `""` is as if it were not set. */
function setDebug(value: string): void {
  vi.stubEnv("IMAGE_IMPORT_DEBUG", value);
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
}

describe("renderFailure() for people", () => {
  it("shows escape sequences in a message, and keeps its lines", () => {
    const error = new ImportError("BadRequest", "It has\n\u001b]0;title\u0007", { hint: "Wait." });

    expect(renderFailure(error, false)).toBe(
      "error: It has\n\\u001b]0;title\\u0007\nhint: Wait.\n",
    );
  });
});

describe("shownFailure()", () => {
  it("shows a known failure unchanged", () => {
    const error = new ImportError("ImageBusy", "Image is imported", { hint: "Wait." });

    expect(shownFailure(error)).toEqual({
      code: "ImageBusy",
      message: "Image is imported",
      hint: "Wait.",
      exitCode: 4,
    });
  });

  it.each(Object.entries(IMPORT_FAILURES))(
    "ends with the exit code of %s",
    (code, { exitCode, hint }) => {
      const error = new ImportError(code as keyof typeof IMPORT_FAILURES, "It failed");

      expect(shownFailure(error)).toEqual({ code, message: "It failed", hint, exitCode });
    },
  );

  it("shows step and store of a failure that has them", () => {
    const error = new ImportError("NoSpace", "It is full", { step: "store", store: "fast" });

    expect(shownFailure(error)).toMatchObject({ code: "NoSpace", step: "store", store: "fast" });
  });

  it("shows a failure that the table does not list by its own code", () => {
    const error = new UnlistedFailure("TypeError", "save: x is not a function", { step: "save" });

    expect(shownFailure(error)).toEqual({
      code: "TypeError",
      message: "save: x is not a function",
      hint: "This is a bug, or a failure of a worker of another version; the worker's log has the details.",
      exitCode: 1,
      step: "save",
    });
  });

  it("shows a wrong use", () => {
    const error = new UsageError(
      "name either an image id or --all",
      "Name one image, or give --all.",
    );

    expect(shownFailure(error)).toEqual({
      code: "BadUsage",
      message: "name either an image id or --all",
      hint: "Name one image, or give --all.",
      exitCode: 2,
    });
  });

  it("shows the error of the argument parser as a wrong use", () => {
    const error = new CommanderError(1, "commander.unknownOption", "error: unknown option '--x'");

    expect(shownFailure(error)).toEqual({
      code: "BadUsage",
      message: "unknown option '--x'",
      hint: "Run `image-import --help`: it lists the commands.",
      exitCode: 2,
    });
  });

  it.each([
    ["an error", new TypeError("x is not a function"), "x is not a function"],
    ["anything else", "out of luck", "out of luck"],
  ])("shows %s that has no code as a bug", (_, error, message) => {
    expect(shownFailure(error)).toEqual({
      code: "InternalError",
      message,
      hint: "This is a bug or an unforeseen fault. Set IMAGE_IMPORT_DEBUG=1 to see where.",
      exitCode: 1,
    });
  });
});

describe("renderFailure()", () => {
  const error = new ImportError("FileNotFound", 'There is no file "disk.raw"');

  it("is two lines for people", () => {
    setDebug("");

    expect(renderFailure(error, false)).toBe(
      'error: There is no file "disk.raw"\nhint: Check the path.\n',
    );
  });

  it("is one document of one line for programs", () => {
    expect(renderFailure(error, true)).toBe(
      '{"code":"FileNotFound","message":"There is no file \\"disk.raw\\"","hint":"Check the path."}\n',
    );
  });

  it("shows where an error and its causes come from, when asked", () => {
    setDebug("1");
    const cause = new Error("ENOENT");
    const failure = new ImportError("FileNotFound", "There is no file", { cause });

    expect(renderFailure(failure, false)).toBe(
      `error: There is no file\nhint: Check the path.\n${failure.stack ?? ""}\ncaused by ${cause.stack ?? ""}\n`,
    );
  });

  it("shows programs no stack trace, whatever was asked", () => {
    setDebug("1");

    expect(JSON.parse(renderFailure(error, true))).toEqual({
      code: "FileNotFound",
      message: 'There is no file "disk.raw"',
      hint: "Check the path.",
    });
  });
});
