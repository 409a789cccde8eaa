import { randomBytes, randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client, Connection } from "@temporalio/client";
import { inject, onTestFinished, vi } from "vitest";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import { importWorkflowId, type AcceptedImport } from "../../src/workflow/contract.ts";
import { readConfig } from "../../src/config/config.ts";
import { CommandLine } from "./command-line.ts";
import { MIB } from "./mib.ts";
import { RunningStack } from "./running-stack.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";
import { PATIENCE } from "./patience.ts";

/** Size of an image whose copy is held. */
export const HELD_BYTES = 4 * MIB;

/**
 * A stack that several tests share; each test has images of its own on it. By default it is the one
 * that all files of a project share.
 */
export class SharedStack extends RunningStack {
  constructor(dataDir = inject("sharedStack")) {
    super({ dataDir });
  }

  /** The variables that `image-import env` prints for programs. */
  async environment(): Promise<NodeJS.ProcessEnv> {
    return (await this.commandLine.answer("env")) as NodeJS.ProcessEnv;
  }

  /** A client of everything, closed when the running test has finished. */
  async connect(): Promise<ImageImportClient> {
    const { temporal_address: address, database_url: databaseUrl, config } = this.file;
    const client = await ImageImportClient.connect({
      temporal: { address },
      databaseUrl,
      config: readConfig(config),
    });
    onTestFinished(() => client.close());
    return client;
  }

  /**
   * The command line of this stack, but that no worker runs for it: it asks Temporal in a namespace
   * of its own.
   *
   * @param env - more variables
   */
  async withoutWorker(env: NodeJS.ProcessEnv = {}): Promise<CommandLine> {
    return new CommandLine({
      dataDir: this.dataDir,
      env: { ...(await this.environmentWithoutWorker()), ...env },
    });
  }

  /** The variables of a new namespace of Temporal, for which no worker runs. */
  async environmentWithoutWorker() {
    const { temporal_address: address } = this.file;
    const connection = await Connection.connect({ address });
    const namespace = `idle-${randomUUID()}`;
    await connection.workflowService.registerNamespace({
      namespace,
      // protobuf.js takes a number where its types want its own 64-bit integer.
      workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
    });
    await connection.close();
    return { TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: namespace };
  }

  /** Terminates the newest run of an image's import. */
  async terminate(imageId: string): Promise<void> {
    const connection = await Connection.connect({ address: this.file.temporal_address });
    await new Client({ connection }).workflow.getHandle(importWorkflowId(imageId)).terminate();
    await connection.close();
  }

  /** Waits until Temporal has a run that imports this image, as this command line sees it. */
  async waitForRun(commandLine: CommandLine, imageId: string): Promise<void> {
    await vi.waitUntil(
      async () => (await commandLine.json("status", imageId)).exitCode === 0,
      PATIENCE,
    );
  }

  /** A new image without data: `raw` in `bare`. */
  async queuedImage(): Promise<string> {
    const client = await this.connect();
    return (await client.images.create({ diskFormat: "raw", containerFormat: "bare" })).id;
  }

  /** A new image with data that is staged. */
  async stagedImage(sizeBytes = 4096): Promise<string> {
    const imageId = await this.queuedImage();
    await (await this.connect()).files.stage(imageId, writeDisk(sizeBytes));
    return imageId;
  }

  /** A new image that is active in these stores. */
  async activeImage(...stores: readonly string[]): Promise<string> {
    const imageId = await this.stagedImage();
    const client = await this.connect();
    await client.imports.start(imageId, stores.length === 0 ? {} : { stores });
    await client.imports.wait(imageId);
    return imageId;
  }

  /**
   * An import that runs: its copy into the store `slow` is held in the middle of its bytes, until
   * the test lets it end, by {@link release}, or cancels it. When the test has finished it is
   * cancelled, if it still runs.
   */
  async runningImport(): Promise<AcceptedImport> {
    const imageId = await this.heldImage();
    const client = await this.connect();
    const accepted = await client.imports.start(imageId, { stores: ["slow"] });
    onTestFinished(async () => {
      await client.imports.cancel(imageId, { wait: true }).catch(() => undefined);
    });
    // The status has the bytes of a copy only once its heartbeat has arrived at Temporal.
    await vi.waitUntil(async () => {
      const { stores } = await client.imports.status(imageId);
      return (stores["slow"]?.done_bytes ?? 0) > 0;
    }, PATIENCE);
    return accepted;
  }

  /** A new image with data that is staged, whose copy into the store `slow` will be held. */
  async heldImage(): Promise<string> {
    const imageId = await this.stagedImage(HELD_BYTES);
    this.holds.hold("slow", imageId);
    return imageId;
  }

  /** Lets the copy of an image into the store `slow` continue to its end. */
  release(imageId: string): void {
    this.holds.release("slow", imageId);
  }

  /** An image whose import has failed: it was declared to be what it is not. */
  async failedImport(): Promise<AcceptedImport> {
    const client = await this.connect();
    const imageId = await this.stagedImage();
    await client.images.change(imageId, { diskFormat: "qcow2" });
    const accepted = await client.imports.start(imageId);
    await client.imports.wait(imageId).catch(() => undefined);
    return accepted;
  }
}

/** A file of random bytes, gone when the running test has finished. */
export function writeDisk(sizeBytes = 4096): string {
  const path = join(makeTemporaryDirectory(), "disk.raw");
  writeFileSync(path, randomBytes(sizeBytes));
  return path;
}
