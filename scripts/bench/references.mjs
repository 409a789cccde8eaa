import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { secondsOf } from "./measure.mjs";

/**
 * Copies and digests a file with the system's own tools, all at once: cp with sync, md5, sha512.
 *
 * @param {string} file
 * @param {string} target
 * @returns the seconds that it took
 */
export async function copyAndDigest(file, target) {
  try {
    return await secondsOf(() =>
      Promise.all([
        copy(file, target),
        run("openssl", "md5", file),
        run("openssl", "sha512", file),
      ]),
    );
  } finally {
    rmSync(target, { force: true });
  }
}

/**
 * Copies a file to several places at once, with cp and sync.
 *
 * @param {string} file
 * @param {readonly string[]} targets
 * @param {string[]} options - of cp
 * @returns the seconds that it took
 */
export async function copyToAll(file, targets, ...options) {
  try {
    return await secondsOf(() =>
      Promise.all(targets.map((target) => copy(file, target, ...options))),
    );
  } finally {
    for (const target of targets) rmSync(target, { force: true });
  }
}

/**
 * Downloads a URL with curl, and syncs the file.
 *
 * @param {string} url
 * @param {string} target
 * @returns the seconds that it took
 */
export async function fetchWithCurl(url, target) {
  try {
    return await secondsOf(async () => {
      await run("curl", "--silent", "--fail", "--output", target, url);
      await run("sync", target);
    });
  } finally {
    rmSync(target, { force: true });
  }
}

/** Downloads a URL with curl to /dev/null. @param {string} url @returns the seconds that it took */
export async function receiveWithCurl(url) {
  return secondsOf(() => run("curl", "--silent", "--fail", "--output", "/dev/null", url));
}

/** Sends a file to a URL with curl, by PUT. @param {string} file @param {string} url */
export async function sendWithCurl(file, url) {
  const type = ["--header", "content-type: application/octet-stream"];
  await run("curl", "--silent", "--fail", ...type, "--upload-file", file, url);
}

/**
 * Sends a file to an S3 server with s5cmd and its defaults, and removes the object again.
 *
 * @param {string} s5cmd
 * @param {string} file
 * @param {{ endpoint: string, url: string }} target
 * @returns the seconds that it took
 */
export async function sendWithS5cmd(s5cmd, file, { endpoint, url }) {
  const options = ["--endpoint-url", endpoint];
  try {
    return await secondsOf(() => run(s5cmd, ...options, "cp", file, url));
  } finally {
    await run(s5cmd, ...options, "rm", url);
  }
}

/** @param {string} file @param {string} target @param {string[]} options */
async function copy(file, target, ...options) {
  await run("cp", ...options, file, target);
  await run("sync", target);
}

/** @param {string} command @param {string[]} args */
async function run(command, ...args) {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
  const kill = () => child.kill();
  process.once("exit", kill);
  const [code] = /** @type {[number | null]} */ (await once(child, "exit"));
  process.off("exit", kill);
  if (code !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${String(code)}`);
}
