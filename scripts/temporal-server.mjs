import { mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDirectory } from "./cache-directory.mjs";
import { findOnPath, isProgram, outputOf, say, succeeds } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { whileSaying } from "./progress.mjs";

// Builds Temporal's own server and its database tool, the programs of the images in
// docker-compose.yml.

const BUILD_DIRECTORY = fileURLToPath(new URL("temporal-server", import.meta.url));
const SERVER = "go.temporal.io/server";

/**
 * The paths of `temporal-server`, `temporal-sql-tool` and the schema for Postgres. Builds them
 * once, in minutes.
 */
export async function ensureTemporalServer() {
  if (!findOnPath("go")) throw new Error("Cannot build Temporal's server: there is no Go on PATH");
  // No stamp of the clone's commit: git refuses to read a clone that another user owns.
  const server = await ensureProgram("temporal-server", `${SERVER}/cmd/server`);
  const sqlTool = await ensureProgram("temporal-sql-tool", `${SERVER}/cmd/tools/sql`);
  const source = goOutput("list", "-m", "-f", "{{.Dir}}", SERVER);
  return { server, sqlTool, schemaDir: join(source, "schema/postgresql/v12") };
}

/** @param {string} name @param {string} source */
async function ensureProgram(name, source) {
  const directory = join(
    cacheDirectory(),
    `temporal-server-${goOutput("list", "-m", "-f", "{{.Version}}", SERVER)}`,
  );
  const path = join(directory, name);
  if (isProgram(path)) return path;
  return exclusively(path, `builds ${name}`, async () => {
    if (isProgram(path)) return path;
    say(`Building ${name} from source: some minutes, once …`);
    mkdirSync(directory, { recursive: true });
    const args = ["build", "-buildvcs=false", "-o", `${path}.new`, source];
    const build = () => succeeds("go", args, { cwd: BUILD_DIRECTORY });
    if (!(await whileSaying(`building ${name}`, build)))
      throw new Error(`Cannot build ${name}: see above`);
    renameSync(`${path}.new`, path);
    return path;
  });
}

/** @param {string[]} args */
function goOutput(...args) {
  const output = outputOf("go", args, { cwd: BUILD_DIRECTORY })?.trim();
  if (output) return output;
  throw new Error(`go ${args.join(" ")} failed in ${BUILD_DIRECTORY}`);
}
