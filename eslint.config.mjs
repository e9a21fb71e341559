// Types-aware lint, and the import rules of ARCHITECTURE.md ("Who may import whom").
import js from "@eslint/js";
import ts from "typescript-eslint";

/** Engine folders in the order data flows: a folder may import only those before it. */
const engineFolders = [
  "tensor",
  "checkpoint",
  "gguf",
  "model",
  "graph",
  "autodiff",
  "runtime",
  "linalg",
  "data",
  "execution",
  "routing",
  "compression",
  "distillation",
  "evaluation",
  "run",
  "report",
];

/** Heavy libraries and the one place each may be imported from. */
const soleImporters = [
  { library: "vscode", from: ["src/extension/**"], typesOk: false },
  { library: "onnxruntime-node", from: ["src/engine/runtime/session.ts"] },
  { library: "chart.js", from: ["webview/common/charts/**"] },
  { library: "@vscode/webview-ui-toolkit", from: ["webview/common/toolkit.ts"] },
  { library: "@huggingface/tokenizers", from: ["src/engine/data/tokenizer.ts"] },
  { library: "commander", from: ["src/cli/**"] },
  { library: "protobufjs", from: ["src/engine/graph/onnx*.ts"] },
];

const restricted = (patterns, paths = []) => ["error", { paths, patterns }];

/** The libraries a file may not import, given the glob it is matched by. */
const forbidden = (glob) =>
  soleImporters
    .filter(({ from }) => !from.includes(glob))
    .map(({ library, from }) => ({
      regex: `^${library.replace("/", "\\/")}(\\/.*)?$`,
      message: `only ${from.join(", ")} may import ${library}`,
    }));

const engineRules = engineFolders.map((folder, i) => {
  const later = engineFolders.slice(i + 1);
  return {
    files: [`src/engine/${folder}/**/*.ts`],
    ignores: soleImporters.flatMap(({ from }) => from),
    rules: {
      "no-restricted-imports": restricted([
        ...forbidden(""),
        { regex: "(^|/)(extension|cli|webview)/", message: "the engine knows neither its hosts nor its pages" },
        ...(later.length > 0
          ? [
              {
                regex: `^\\.\\./(\\.\\./)*(${later.join("|")})/`,
                message: `${folder}/ may import only the folders before it`,
              },
            ]
          : []),
      ]),
    },
  };
});

export default ts.config(
  {
    ignores: [
      "dist/",
      "out/",
      "node_modules/",
      "test/fixtures/",
      "test/corpus/",
      ".reroute/",
      ".vscode-test/",
      "test/e2e/.host/",
    ],
  },
  js.configs.recommended,
  ...ts.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { projectService: { allowDefaultProject: ["*.mjs"] }, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "no-console": "error",
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // Dense numeric loops index typed arrays whose bounds the loop itself guarantees.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/consistent-type-definitions": "off",
      "@typescript-eslint/require-await": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
    },
  },
  { files: ["src/**/*.ts", "webview/**/*.ts"], rules: { "no-restricted-imports": restricted(forbidden("")) } },
  ...engineRules,
  { files: ["src/engine/runtime/session.ts"], rules: { "no-restricted-imports": "off" } },
  { files: ["src/engine/graph/onnx*.ts", "src/engine/data/tokenizer.ts"], rules: { "no-restricted-imports": "off" } },
  {
    files: ["src/protocol/**/*.ts"],
    rules: {
      "no-restricted-imports": restricted([
        ...forbidden(""),
        { regex: "^\\.\\./", message: "the protocol imports nothing of ours" },
      ]),
    },
  },
  { files: ["src/extension/**/*.ts"], rules: { "no-restricted-imports": restricted(forbidden("src/extension/**")) } },
  {
    files: ["src/cli/**/*.ts"],
    rules: { "no-restricted-imports": restricted(forbidden("src/cli/**")), "no-console": "off" },
  },
  {
    files: ["webview/common/charts/**/*.ts"],
    rules: { "no-restricted-imports": restricted(forbidden("webview/common/charts/**")) },
  },
  {
    files: ["webview/common/toolkit.ts"],
    rules: { "no-restricted-imports": restricted(forbidden("webview/common/toolkit.ts")) },
  },
  {
    files: ["test/**/*.ts", "*.mjs", "scripts/*.mjs", "*.config.mts", "test/**/*.mjs"],
    rules: { "no-console": "off", "@typescript-eslint/no-empty-function": "off" },
  },
  {
    files: ["**/*.mjs", "**/*.cjs"],
    ...ts.configs.disableTypeChecked,
    languageOptions: {
      ...ts.configs.disableTypeChecked.languageOptions,
      globals: { console: "readonly", process: "readonly", URL: "readonly" },
    },
  },
);
