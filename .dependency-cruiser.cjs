// The layers of ARCHITECTURE.md: imports point down, never up or across.
const entry = "^src/(cli|http|worker|stack)/";
const tools = ["sources", "staging", "formats", "transforms", "stores", "db", "health"];

/** @param {string} tool @returns {import("dependency-cruiser").IForbiddenRuleType} */
function toolRule(tool) {
  return {
    name: `${tool}-is-a-tool`,
    comment: "Tools know the words, bytes and processes, not each other.",
    severity: "error",
    from: { path: `^src/${tool}/` },
    to: { path: "^src/", pathNot: `^src/(${tool}|processes|bytes|domain)/` },
  };
}

/** @type {import("dependency-cruiser").IConfiguration} */
const configuration = {
  forbidden: [
    {
      name: "domain-imports-nothing",
      comment: "The words are pure: no other folder, no package, no Node built-in.",
      severity: "error",
      from: { path: "^src/domain/" },
      to: { pathNot: "^src/domain/" },
    },
    {
      name: "bytes-know-only-domain",
      severity: "error",
      from: { path: "^src/bytes/" },
      to: { path: "^src/", pathNot: "^src/(bytes|domain)/" },
    },
    {
      name: "processes-know-only-bytes",
      severity: "error",
      from: { path: "^src/processes/" },
      to: { path: "^src/", pathNot: "^src/(processes|bytes|domain)/" },
    },
    ...tools.map(toolRule),
    {
      name: "workflow-is-deterministic",
      comment:
        "At run time a workflow has only the words and Temporal's workflow packages; of steps it knows the types.",
      severity: "error",
      from: { path: "^src/workflow/" },
      to: {
        pathNot: "^src/(workflow|domain)/|@temporalio/(workflow|common)",
        dependencyTypesNot: ["type-only"],
      },
    },
    {
      name: "workflow-knows-only-steps-by-type",
      severity: "error",
      from: { path: "^src/workflow/" },
      to: { path: "^src/", pathNot: "^src/(workflow|domain|activities)/" },
    },
    {
      name: "activities-know-only-tools",
      severity: "error",
      from: { path: "^src/activities/" },
      to: {
        path: "^src/",
        pathNot: `^src/(activities|${tools.join("|")}|processes|bytes|domain)/`,
      },
    },
    {
      name: "config-knows-only-domain",
      severity: "error",
      from: { path: "^src/config/" },
      to: { path: "^src/", pathNot: "^src/(config|domain)/" },
    },
    {
      name: "client-knows-workflow-by-contract",
      comment: "A client never loads workflow code; of steps it knows the types.",
      severity: "error",
      from: { path: "^src/client/" },
      to: {
        path: "^src/(workflow|activities)/",
        pathNot: "^src/workflow/contract.ts$",
        dependencyTypesNot: ["type-only"],
      },
    },
    {
      name: "temporal-knows-workflow-by-contract",
      comment: "Below the client and the worker: the server's failures, namespace and schedule.",
      severity: "error",
      from: { path: "^src/temporal/" },
      to: {
        path: "^src/",
        pathNot: "^src/(temporal|config|domain)/|^src/workflow/contract.ts$",
        dependencyTypesNot: ["type-only"],
      },
    },
    {
      name: "worker-imports-no-client",
      comment: "What both need stands below both, in temporal.",
      severity: "error",
      from: { path: "^src/worker/" },
      to: { path: "^src/client/" },
    },
    {
      name: "cli-imports-no-tools",
      comment: "The command line does what the client does; it never reaches past it.",
      severity: "error",
      from: { path: "^src/cli/" },
      to: {
        path: `^src/(${[...tools, "bytes", "activities", "workflow", "temporal"].join("|")})/`,
        pathNot: "^src/workflow/contract.ts$",
      },
    },
    {
      name: "remote-knows-the-client-by-type",
      comment:
        "The client over HTTP has the interface of the client, and shares only what needs no service.",
      severity: "error",
      from: { path: "^src/remote/" },
      to: {
        path: "^src/",
        pathNot:
          "^src/(remote|domain|config)/|^src/bytes/positional-io.ts$|^src/client/(ended-import|new-file|open-upload|pages-of|unanswered-start|write-to).ts$",
        dependencyTypesNot: ["type-only"],
      },
    },
    {
      name: "remote-is-of-the-command-line",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(remote|cli)/" },
      to: { path: "^src/remote/" },
    },
    {
      name: "http-imports-no-tools",
      comment: "The API does what the client does; it only answers for its own health.",
      severity: "error",
      from: { path: "^src/http/" },
      to: {
        path: `^src/(${[...tools, "bytes", "activities", "workflow", "temporal", "worker", "stack", "cli"].join("|")})/`,
        pathNot: "^src/health/|^src/workflow/contract.ts$",
      },
    },
    {
      name: "entries-are-not-imported",
      severity: "error",
      from: { pathNot: entry },
      to: { path: entry },
    },
    {
      name: "entries-stay-apart",
      comment: "The command line starts a worker or a stack; nothing else crosses.",
      severity: "error",
      from: { path: "^src/(worker|stack)/" },
      to: { path: "^src/(cli|http)/" },
    },
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "no-orphans",
      severity: "error",
      from: {
        orphan: true,
        // Started by path, not by import.
        pathNot: ["^src/bytes/digest-thread.ts$", "^src/client/index.ts$"],
      },
      to: {},
    },
    {
      name: "no-dev-dependency-in-src",
      severity: "error",
      from: { path: "^src/" },
      to: { dependencyTypes: ["npm-dev"], dependencyTypesNot: ["type-only"], pathNot: "@types/" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "types"],
    },
  },
};

module.exports = configuration;
