import { expect, it } from "vitest";
import { startCommand } from "../../src/cli/start-command.ts";

const NOTHING = { detectFormat: false, allStoresMustSucceed: true };

it.each([
  [NOTHING, "image-import start ID"],
  [{ ...NOTHING, detectFormat: true }, "image-import start ID --detect-format"],
  [
    { ...NOTHING, store: ["a", "b"], allStoresMustSucceed: false },
    "image-import start ID --store a --store b --no-all-stores-must-succeed",
  ],
  [
    { ...NOTHING, allStores: true, checksum: "md5:00", size: 512 },
    "image-import start ID --all-stores --checksum md5:00 --size 512",
  ],
  [
    { ...NOTHING, role: ["it's"], transform: ["decompress", "convert"] },
    "image-import start ID --role 'it'\\''s' --transform decompress --transform convert",
  ],
  [{ ...NOTHING, transform: false as const }, "image-import start ID --no-transform"],
])("the command to start again with %j is %s", (choice, command) => {
  expect(startCommand("ID", choice)).toBe(command);
});
