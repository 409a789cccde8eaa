import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { holdsDirectory } from "./copy-holds-env.ts";
import { MIB } from "./mib.ts";

/**
 * Holds the copies of other processes in the middle of their bytes, until the test releases them or
 * they are cancelled. The processes need the variables of `copyHoldsEnv`. A hold is made before the
 * copy begins; it ends with the running test.
 */
export class CopyHolds {
  readonly #directory: string;

  constructor(dataDir: string) {
    this.#directory = holdsDirectory(dataDir);
  }

  /**
   * Holds the copies of an image into a file store, once they have this many bytes, and downloads
   * from there. The image must have more, and be copied byte by byte.
   */
  hold(store: string, imageId: string, atBytes = 2 * MIB): void {
    this.#hold(`${store}.${imageId}`, atBytes);
  }

  /** Lets the copies that wait continue, and later ones pass. */
  release(store: string, imageId: string): void {
    this.#release(`${store}.${imageId}`);
  }

  /**
   * Holds each staging by a command, once it has written this many bytes. The configuration must
   * limit the bandwidth of the staging.
   */
  holdStaging(atBytes: number): void {
    this.#hold("staging", atBytes);
  }

  /** Holds each upload of an API, and the copy of its part, from this byte on. */
  holdUploads(atBytes: number): void {
    this.#hold("upload", atBytes);
  }

  /** Lets the stagings that wait continue, and later ones pass. */
  releaseStaging(): void {
    this.#release("staging");
  }

  #hold(name: string, atBytes: number): void {
    mkdirSync(this.#directory, { recursive: true });
    writeFileSync(join(this.#directory, name), String(atBytes));
    onTestFinished(() => {
      this.#release(name);
    });
  }

  #release(name: string): void {
    rmSync(join(this.#directory, name), { force: true });
  }
}
