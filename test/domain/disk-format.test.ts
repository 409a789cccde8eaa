import { describe, expect, it } from "vitest";
import {
  CONTAINER_FORMATS,
  DISK_FORMATS,
  isContainerFormat,
  isDiskFormat,
} from "../../src/domain/disk-format.ts";

describe("isDiskFormat()", () => {
  it.each(DISK_FORMATS)("knows %s", (name) => {
    expect(isDiskFormat(name)).toBe(true);
  });

  it.each(["", "QCOW2", "qed", "bare", "raw "])("rejects %j", (name) => {
    expect(isDiskFormat(name)).toBe(false);
  });
});

describe("isContainerFormat()", () => {
  it.each(CONTAINER_FORMATS)("knows %s", (name) => {
    expect(isContainerFormat(name)).toBe(true);
  });

  it.each(["", "Bare", "zip", "qcow2"])("rejects %j", (name) => {
    expect(isContainerFormat(name)).toBe(false);
  });
});
