// Started with `node --import`: writes the URL of each ES module that is loaded, one a line, to
// stdout. CommonJS modules are in require.cache at the end.
import { createRequire, register } from "node:module";
import { writeSync } from "node:fs";

register("./load-hooks.mjs", import.meta.url);
process.on("exit", () => {
  for (const path of Object.keys(createRequire(import.meta.url).cache)) writeSync(1, `${path}\n`);
});
