import { builtinModules } from "node:module";
import jsdoc from "eslint-plugin-jsdoc";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";
import plainEnglish from "./scripts/lint/plain-english.mjs";

const nodeBuiltins = builtinModules.flatMap((name) => [name, `node:${name}`]);

export default defineConfig(
  { ignores: ["dist/", "coverage/"] },
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    plugins: { jsdoc, "plain-english": plainEnglish },
    rules: {
      // In workflow code, a promise that is not awaited is a step that may never run.
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/explicit-module-boundary-types": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // Activities are async by contract, also when they have nothing to await.
      "@typescript-eslint/require-await": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],

      // `== null` is the one short way to say "null or undefined".
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-console": "error",

      "jsdoc/informative-docs": "error",
      // Only parameters that need a word get one.
      "jsdoc/check-param-names": ["error", { disableMissingParamChecks: true }],
      "jsdoc/no-types": "error",
      "jsdoc/require-throws-description": "off",

      "plain-english/words": "error",
      "plain-english/doc-opening": "error",
      "plain-english/comment-width": "error",
    },
  },
  {
    files: ["src/domain/**", "src/workflow/**"],
    rules: { "@typescript-eslint/no-restricted-imports": ["error", { paths: nodeBuiltins }] },
  },
  {
    files: ["src/**"],
    ignores: ["src/config/**"],
    rules: {
      "no-restricted-properties": [
        "error",
        { object: "process", property: "env", message: "The environment is read in src/config." },
      ],
    },
  },
  {
    files: ["test/**"],
    rules: {
      "no-restricted-syntax": [
        "error",
        ...["vi.waitFor", "vi.waitUntil", "expect.poll"].map((name) => {
          const [object, property] = name.split(".");
          return {
            selector: `CallExpression[callee.object.name="${object}"][callee.property.name="${property}"][arguments.length<2]`,
            message: `${name} waits one second by default, which a busy machine exceeds: pass PATIENCE.`,
          };
        }),
      ],
    },
  },
  { files: ["src/cli/**"], rules: { "no-console": "off" } },
  {
    files: ["**/*.{js,cjs,mjs}"],
    rules: {
      // Their types stand in comments, and these rules do not see a cast in a comment.
      "jsdoc/no-types": "off",
      "@typescript-eslint/no-unsafe-argument": "off",
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-call": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
      "@typescript-eslint/no-unsafe-return": "off",
    },
  },
);
