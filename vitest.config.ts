import { defineConfig } from "vitest/config";
import InterleavedProjects from "./test/support/interleaved-projects.ts";

const build = "./test/support/build.ts";
const services = "./test/support/services.ts";

// They run whole imports, and so the workflows as they are built.
const withWorkflows = ["test/client/{import-runs,start-import,image-import-client}.test.ts"];

export default defineConfig({
  test: {
    // The Temporal SDK's native module does not survive worker threads.
    pool: "forks",
    // One more than a small machine has cores: the tests wait for servers, timers and deadlines a
    // third of their time.
    maxWorkers: 3,
    sequence: { sequencer: InterleavedProjects },
    reporters: ["default", "./test/support/count-reporter.ts"],
    projects: [
      {
        test: {
          name: "unit",
          include: [
            "test/{domain,formats,bytes,processes,sources,staging,stores,transforms,config,health}/**/*.test.ts",
          ],
          // Digest threads run from dist.
          globalSetup: build,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "services",
          include: ["test/{db,activities,client,temporal,worker}/**/*.test.ts"],
          exclude: withWorkflows,
          globalSetup: [build, services],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "stack",
          include: ["test/{stack,scripts}/**/*.test.ts"],
          globalSetup: [build, services],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "cli",
          include: ["test/{cli,docs,examples,package}/**/*.test.ts"],
          globalSetup: [build, "./test/support/shared-stack-setup.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "http",
          include: ["test/http/**/*.test.ts"],
          globalSetup: [build, "./test/support/shared-stack-setup.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "workflow",
          include: ["test/workflow/**/*.test.ts", ...withWorkflows],
          globalSetup: [build, services],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          globalSetup: [build, services],
          // Whole stacks that are killed and restarted; alone on the machine, after everything
          // else.
          sequence: { groupOrder: 1 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
