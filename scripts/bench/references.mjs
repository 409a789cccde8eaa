import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { secondsOf } from "./measure.mjs";

/** What moving and digesting a file costs with the system's own tools, all at once: cp with sync, md5, sha512. */
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

/** Copies a file to several places at once, with cp and sync. */
export async function copyToAll(file, targets, ...options) {
  try {
    return await secondsOf(() =>
      Promise.all(targets.map((target) => copy(file, target, ...options))),
    );
  } finally {
    for (const target of targets) rmSync(target, { force: true });
  }
}

/** Downloads a URL with curl, and syncs what came. */
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

/** Receives what a URL has with curl, and keeps nothing of it. */
export async function receiveWithCurl(url) {
  return secondsOf(() => run("curl", "--silent", "--fail", "--output", "/dev/null", url));
}

/** Sends a file to an S3 server with s5cmd as it comes, and removes the object again. */
export async function sendWithS5cmd(s5cmd, file, { endpoint, url }) {
  const options = ["--endpoint-url", endpoint];
  try {
    return await secondsOf(() => run(s5cmd, ...options, "cp", file, url));
  } finally {
    await run(s5cmd, ...options, "rm", url);
  }
}

async function copy(file, target, ...options) {
  await run("cp", ...options, file, target);
  await run("sync", target);
}

async function run(command, ...args) {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
  const kill = () => child.kill();
  process.once("exit", kill);
  const [code] = await once(child, "exit");
  process.off("exit", kill);
  if (code !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${code}`);
}
