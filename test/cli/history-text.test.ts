import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { historyText } from "../../src/cli/history-text.ts";
import type { HistoryEntry } from "../../src/domain/image-history.ts";

beforeAll(() => {
  vi.stubEnv("TZ", "UTC");
});

afterAll(() => {
  vi.unstubAllEnvs();
});

const NOW = new Date("2026-11-25T23:00:13.950Z");
const TASK_ID = "0d1f6f6a-7a55-4d6c-8f62-c2b9f27ce0d2";

const HISTORY: readonly HistoryEntry[] = [
  {
    event: "imported",
    at: "2026-11-25T20:00:13.000Z",
    task_id: TASK_ID,
    run_id: null,
    request_id: null,
    owner: "team-a",
    user_id: "ann",
    roles: ["member", "admin"],
    method: "web-download",
    source: "https://example.com/debian.qcow2.gz",
    expected_checksum: null,
    accepted_at: "2026-11-25T19:59:13.000Z",
    version: "0.1.0",
    stores: [{ store: "local", url: "file:///srv/local/copy" }],
    name: "debian",
    disk_format: "raw",
    container_format: "bare",
    virtual_size: 4096,
    before: { size: 1024, checksum: "aa", os_hash_algo: "sha512", os_hash_value: "bb" },
    after: { size: 4096, checksum: "cc", os_hash_algo: "sha512", os_hash_value: "dd" },
    verdict: { detected_format: "raw", checks: { mbr: "pass" } },
    transforms: [
      { name: "decompress", has_product: true, disk_format: "qcow2", tool: "zlib 1.3.1" },
      { name: "convert", has_product: true, disk_format: "raw", tool: null },
      { name: "inject_metadata", has_product: false, disk_format: "raw", tool: null },
    ],
  },
  {
    event: "copy_removed",
    at: "2026-11-25T22:00:13.000Z",
    stores: [{ store: "archive", url: "s3://archive/copy" }],
  },
  { event: "deactivated", at: "2026-11-25T23:00:12.000Z" },
];

describe("historyText()", () => {
  it("shows a block for each event, without what is not known", () => {
    expect(historyText(HISTORY, undefined, NOW)).toBe(
      [
        "event                      imported",
        "at                         2026-11-25 20:00:13 (3 h ago)",
        "accepted_at                2026-11-25 19:59:13 (3 h ago)",
        "owner                      team-a",
        "user                       ann",
        "roles                      member, admin",
        "method                     web-download",
        "source                     https://example.com/debian.qcow2.gz",
        `task                       ${TASK_ID}`,
        "version                    0.1.0",
        "name                       debian",
        "disk_format                raw",
        "container_format           bare",
        "before: size               1 KiB (1024 bytes)",
        "before: md5                aa",
        "before: sha512             bb",
        "after: size                4 KiB (4096 bytes)",
        "after: md5                 cc",
        "after: sha512              dd",
        "virtual_size               4 KiB (4096 bytes)",
        "transform decompress       made qcow2 with zlib 1.3.1",
        "transform convert          made raw",
        "transform inject_metadata  left the bytes as they were",
        "detected_format            raw",
        "check mbr                  pass",
        "in local                   file:///srv/local/copy",
        "",
        "event       copy removed",
        "at          2026-11-25 22:00:13 (1 h ago)",
        "in archive  s3://archive/copy",
        "",
        "event  deactivated",
        "at     2026-11-25 23:00:12 (1 s ago)",
        "",
      ].join("\n"),
    );
  });

  it("says that nothing is recorded", () => {
    expect(historyText([], undefined, NOW)).toBe("nothing is recorded\n");
  });
});
