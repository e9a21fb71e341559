// Who may import whom (ARCHITECTURE.md). Type-only and dynamic imports count like all others.

/** Engine folders in the order data flows: a folder imports only those before it. A test holds ARCHITECTURE.md to it. */
export const engineFolders = [
  "tensor",
  "checkpoint",
  "gguf",
  "weights",
  "model",
  "graph",
  "autodiff",
  "runtime",
  "linalg",
  "data",
  "execution",
  "export",
  "generation",
  "routing",
  "compression",
  "distillation",
  "evaluation",
  "run",
  "report",
];

/** Libraries with one importer each, so that replacing one means rewriting one file. */
const soleImporters = {
  "onnxruntime-node": "^src/engine/runtime/session\\.ts$",
  protobufjs: "^src/engine/graph/onnx",
  "@huggingface/tokenizers": "^src/engine/data/tokenizer\\.ts$",
  "@huggingface/jinja": "^src/engine/data/chatTemplate\\.ts$",
  hyparquet: "^src/engine/data/formats/parquet\\.ts$",
  "@uwdata/flechette": "^src/engine/data/formats/arrow\\.ts$",
  "csv-parse": "^src/engine/data/formats/csv\\.ts$",
  fzstd: "^src/engine/data/formats/zstd\\.ts$",
  tinyglobby: "^src/engine/data/textFiles\\.ts$",
  bullmq: "^src/engine/run/queue/",
  ioredis: "^src/engine/run/queue/clients\\.ts$",
  "^pg$": "^src/engine/run/queue/clients\\.ts$",
  commander: "^src/cli/",
  "@modelcontextprotocol/sdk": "^src/cli/commands/mcp\\.ts$",
  "chart\\.js": "^webview/common/charts/",
  "@vscode/webview-ui-toolkit": "^webview/common/components/toolkit\\.ts$",
  "@vscode-elements/elements": "^webview/common/components/elements\\.ts$",
};

const forbid = (name, comment, from, to) => ({ name, comment, severity: "error", from, to });

export default {
  forbidden: [
    forbid(
      "no-circles",
      "Two files that import each other are one idea, or one of them knows too much.",
      {},
      {
        circular: true,
      },
    ),
    ...engineFolders
      .slice(0, -1)
      .map((folder, i) =>
        forbid(
          `engine-${folder}`,
          `${folder}/ imports only the folders before it.`,
          { path: `^src/engine/${folder}/` },
          { path: `^src/engine/((${engineFolders.slice(i + 1).join("|")})/|[^/]+\\.ts$)` },
        ),
      ),
    forbid(
      "engine-hosts",
      "The engine knows neither its hosts nor its pages.",
      { path: "^src/engine/" },
      {
        path: "^(src/(extension|cli)|webview)/",
      },
    ),
    forbid(
      "protocol-alone",
      "The protocol imports nothing of ours.",
      { path: "^src/protocol/" },
      {
        path: "^(src/(?!protocol/)|webview/)",
      },
    ),
    forbid(
      "pages-protocol",
      "A page knows the protocol and nothing else of src.",
      { path: "^webview/" },
      {
        path: "^src/(?!protocol/)",
      },
    ),
    forbid("faces-apart", "Neither face knows the other.", { path: "^src/extension/" }, { path: "^src/cli/" }),
    forbid("faces-apart-too", "Neither face knows the other.", { path: "^src/cli/" }, { path: "^src/extension/" }),
    forbid(
      "vscode-extension",
      "Only the extension host has vscode.",
      { pathNot: "^src/extension/" },
      {
        path: "^vscode$|@types/vscode/",
        dependencyTypesNot: ["type-only"],
      },
    ),
    ...Object.entries(soleImporters).map(([library, importer]) =>
      forbid(
        `only-${library}`,
        "This library has one importer.",
        { pathNot: importer },
        {
          path: `node_modules/${library}/`,
          dependencyTypesNot: ["type-only"],
        },
      ),
    ),
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "require", "node", "default", "types"],
    },
  },
};
