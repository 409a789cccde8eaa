import { pathToFileURL } from "node:url";
import { ensureSystemTool } from "./system-tool.mjs";

/** The path of a xorriso, with which the tests make their ISO images, or undefined when there is no way to get one. */
export async function ensureXorriso() {
  return ensureSystemTool({ program: "xorriso", packageName: "xorriso", variable: "XORRISO" });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${(await ensureXorriso()) ?? ""}\n`);
}
