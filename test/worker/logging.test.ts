import { ApplicationFailure } from "@temporalio/common";
import { describe, expect, it } from "vitest";
import type { LogLevel } from "../../src/domain/log-level.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { createLogger } from "../../src/worker/logging.ts";
import { logLines } from "../support/log-lines.ts";

/** A logger and the lines that it has written. */
function logger(level: LogLevel = "info", secrets: readonly string[] = []) {
  let text = "";
  const log = createLogger({ level, secrets, write: (line) => (text += line) });
  return { log, lines: () => logLines(text), text: () => text };
}

describe("createLogger()", () => {
  it("names levels and times, and things as our documents do", () => {
    const { log, lines } = logger();

    log.info("Import accepted", { workflowId: "image-import/one", workflowRunId: "two" });

    expect(lines()).toMatchObject([
      {
        level: "info",
        msg: "Import accepted",
        image_id: "one",
        workflow_id: "image-import/one",
        run_id: "two",
      },
    ]);
  });

  it.each([
    ["info", ["info", "warn", "error"]],
    ["error", ["error"]],
    ["trace", ["trace", "debug", "info", "warn", "error"]],
  ] as const)("writes at level %s and above", (level, written) => {
    const { log, lines } = logger(level);

    for (const each of ["trace", "debug", "info", "warn", "error"] as const) log[each]("line");

    expect(lines().map((line) => line.level)).toEqual(written);
  });

  it("describes an error with its code, way out and causes, and nothing else of it", () => {
    const { log, text, lines } = logger();
    const cause = Object.assign(new Error("connection refused"), {
      code: "ECONNREFUSED",
      parameters: ["hidden"],
    });
    const error = new ImportError("StoreUnavailable", "Cannot reach it", {
      cause,
      hint: "Mend it.",
    });
    const failure = ApplicationFailure.create({
      type: error.code,
      message: error.message,
      details: [{ store: "fast", hint: error.hint }],
      cause: error,
    });

    log.warn("Activity failed", { error: failure });

    expect(lines()[0]?.["error"]).toEqual({
      name: "ApplicationFailure",
      code: "StoreUnavailable",
      message: "Cannot reach it",
      hint: "Mend it.",
      store: "fast",
      cause: {
        name: "ImportError",
        code: "StoreUnavailable",
        message: "Cannot reach it",
        hint: "Mend it.",
        cause: { name: "Error", code: "ECONNREFUSED", message: "connection refused" },
      },
    });
    expect(text()).not.toContain("hidden");
  });

  it("describes an error that the SDK's core has as a text like any other", () => {
    const { log, lines } = logger();

    log.warn("It is tried again", { error: "tcp connect error" });

    expect(lines()[0]?.["error"]).toEqual({ message: "tcp connect error" });
  });

  it("writes where a bug was thrown", () => {
    const { log, lines } = logger();

    log.error("It ends", { error: new TypeError("x is not a function") });

    expect(lines()[0]?.["error"]).toMatchObject({
      name: "TypeError",
      stack: expect.stringContaining("logging.test") as string,
    });
  });

  it.each([
    ["the query of a URL", "see https://example.com/a.raw?signature=hidden for it"],
    ["the password in a URL", "postgres://user:hidden@host/database"],
    ["the token before the host of a URL", "GET https://hidden-hidden@example.org/disk.raw failed"],
    ["a token", "Authorization: Bearer hidden-hidden"],
    ["a secret that it was given", 'the password is p4ss/hidden"word'],
    ["the same, as a URL has it", "the password is p4ss%2Fhidden%22word"],
  ])("never writes %s", (_, message) => {
    const { log, text, lines } = logger("info", ['p4ss/hidden"word']);

    log.error(message, { url: message, error: new Error(message, { cause: new Error(message) }) });

    expect(text()).not.toContain("hidden-hidden");
    expect(text().replaceAll("[hidden]", "")).not.toMatch(/hidden/);
    expect(lines()).toHaveLength(1);
  });
});
