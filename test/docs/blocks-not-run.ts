/**
 * The blocks of commands that no test runs as they stand, by page and first line, each with the
 * reason and with what checks it instead. Every other `console` and `sh` block is run by
 * `shell-blocks.test.ts`.
 */
export const BLOCKS_NOT_RUN: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "README.md": {
    "npm start": "It runs until Ctrl-C; test/stack/stack.test.ts and test/e2e start stacks.",
    'npx image-import pause "$ID"':
      "It needs an import that runs; docs/how-an-import-runs.md has these commands for one.",
  },
  "docs/getting-started.md": {
    "npm run demo": "It starts a stack of its own; test/stack/demo.test.ts runs it.",
    "npm start": "It runs until Ctrl-C; test/stack/stack.test.ts and test/e2e start stacks.",
  },
  "docs/commands.md": {
    "mkdir -p ~/.local/bin":
      "It writes to the home directory; test/cli/start-up.test.ts starts the program by a link.",
  },
  "docs/downloads.md": {
    "npx image-import import https://cloud.example.org/images/fedora.qcow2":
      "It needs the internet; test/cli/commands/import.test.ts imports from a server of the test.",
    'npx image-import image start "$ID" --method web-download --uri https://cloud.example.org/images/fedora.qcow2':
      "It needs the internet; test/cli/commands/start.test.ts starts a download.",
  },
  "docs/programs-and-other-languages.md": {
    "npm install image-import-0.1.0.tgz":
      "It needs a registry; test/package/package.test.ts installs the package without one.",
  },
  "docs/stores.md": {
    "npx image-import stores --adopt fast":
      "It changes a store that other tests use; test/cli/commands/stores.test.ts adopts one.",
  },
  "docs/http-api.md": {
    "openstack --os-auth-type none --os-endpoint http://127.0.0.1:9292 image list":
      "It needs the OpenStack client; `npm run conformance` runs it.",
    'curl http://127.0.0.1:9292/v2/images -d \'{"name": "debian", "disk_format": "qcow2", "container_format": "bare"}\'':
      "It needs an API at its default port; test/http/images.test.ts sends the same requests.",
  },
  "docs/metrics.md": {
    "node scripts/check-prometheus.mjs":
      "It needs Prometheus; test/docs/metrics.test.ts compares rules and dashboard with the metrics.",
  },
  "docs/production.md": {
    "export POSTGRES_PASSWORD=$(openssl rand -hex 16) S3_SECRET_KEY=$(openssl rand -hex 20)":
      "It needs Docker; scripts/check-compose.mjs runs the same processes without it.",
    "node scripts/check-compose.mjs": "It takes minutes, and builds Temporal's server with Go.",
    "image-import migrate":
      "The worker runs until a signal; test/cli/commands/{migrate,worker}.test.ts run both.",
  },
};
