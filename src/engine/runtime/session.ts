import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import type * as Ort from "onnxruntime-node";
import { RerouteError } from "../../protocol/errors";
import type { ExecutionProvider } from "../../protocol/recipe";
import type { Graph } from "../graph/graph";
import { encodeOnnx } from "../graph/onnxEncode";
import { providerProfiles } from "../graph/providerProfiles";
import { garbageAllowance, noteAllocation } from "./garbage";

// From 1.29 on, onnxruntime counts its users: it keeps an identity and a database in the user's cache folder and sends them to
// Microsoft, unless this is set before it is loaded (the second name: releases after 1.30). Here, since a thread cannot set it.
process.env["ORT_DISABLE_TELEMETRY"] = "1";
process.env["ORT_TELEMETRY_DISABLED"] = "1";

/** How graphs are run on this machine. */
export interface RuntimeOptions {
  /** Threads of one graph run. */
  threads: number;
  provider: ExecutionProvider;
  /** Bytes that sessions, hidden states and statistics may take together; the page cache does not count. */
  memoryBudgetBytes: number;
  /** Sees every graph with what it is run on, before it runs. */
  watch?: (graph: Graph, feeds: Readonly<Record<string, Tensor>>) => void;
}

/** A dense tensor at the boundary of a graph run. Data is row-major and not copied on the way in. */
export interface Tensor {
  type: "float32" | "float64" | "int64" | "int32" | "bool" | "uint8" | "int8";
  shape: readonly number[];
  data: Float32Array | Float64Array | BigInt64Array | Int32Array | Uint8Array | Int8Array;
}

export interface BlockSessionOptions {
  runtime: RuntimeOptions;
  /**
   * Keep f32 copies of half-precision weights between runs (constant folding of the casts): faster for models that fit
   * the budget several times over, at four bytes a weight. Otherwise only the stored bytes are mapped, and the cast is
   * redone in every run: session creation takes 250 ms instead of 4.5 s for 604 MB of experts.
   */
  keepFloat32Weights: boolean;
  /**
   * Keep the memory of temporaries from run to run, until the session is released. For runs one after another with
   * temporaries of tens of megabytes, whose pages the system would otherwise give and take in each.
   */
  keepTemporaries?: boolean;
}

let secondsInGraphs = 0;

/** Seconds that graphs of this thread have run so far; compiling is not counted. */
export function graphSeconds(): number {
  return secondsInGraphs;
}

/** Counts seconds of graphs that ran in other threads, divided by the number of those that ran at once. */
export function noteGraphSeconds(seconds: number): void {
  secondsInGraphs += seconds;
}

/** One compiled graph. The only place that talks to onnxruntime-node. */
export class BlockSession {
  readonly #session: Ort.InferenceSession;
  readonly #ort: typeof Ort;
  readonly #garbageAllowance: number;
  readonly #watch: ((feeds: Readonly<Record<string, Tensor>>) => void) | null;
  #released = false;

  private constructor(ort: typeof Ort, session: Ort.InferenceSession, graph: Graph, runtime: RuntimeOptions) {
    this.#ort = ort;
    this.#session = session;
    this.#garbageAllowance = garbageAllowance(runtime.memoryBudgetBytes);
    const { watch } = runtime;
    this.#watch = watch === undefined ? null : (feeds) => watch(graph, feeds);
  }

  /**
   * Compiles a graph.
   * @throws RerouteError `runtime/unavailable`, `runtime/provider`, `runtime/failed`
   */
  static async create(
    graph: Graph,
    { runtime, keepFloat32Weights, keepTemporaries = false }: BlockSessionOptions,
  ): Promise<BlockSession> {
    const ort = await loadRuntime();
    const profile = providerProfiles[runtime.provider];
    const folder = commonFolder(
      graph.initialisers.flatMap((initialiser) => (initialiser.kind === "file" ? [initialiser.range.file] : [])),
    );
    const session = {
      // A thread that waits for another by spinning burns the core that the other one needs: on two cores with anything
      // else running, updates of a small model took five times as long. On an idle machine it makes no difference here.
      intra_op: { allow_spinning: "0" },
      // Otherwise onnxruntime copies a decoding step for each product that reads it: weights would be decoded twice.
      disable_quant_qdq: "1",
      ...(folder === null ? {} : { model_external_initializers_file_folder_path: folder }),
    };
    const options: Ort.InferenceSession.SessionOptions = {
      executionProviders: [profile.session],
      intraOpNumThreads: runtime.threads,
      interOpNumThreads: 1,
      executionMode: "sequential",
      // Folding, common subexpressions and fusions of the "all" level were measured to change nothing here but the time
      // that compiling an experts block takes.
      graphOptimizationLevel: "basic",
      enableCpuMemArena: keepTemporaries,
      enableMemPattern: false,
      logSeverityLevel: 3,
      extra: {
        session,
        optimization: {
          disable_specified_optimizers:
            keepFloat32Weights || profile.widensWeights ? wrongOptimizers : `ConstantFolding;${wrongOptimizers}`,
        },
      },
    };
    try {
      const compiled = await ort.InferenceSession.create(encodeOnnx(graph, folder ?? "/", profile), options);
      return new BlockSession(ort, compiled, graph, runtime);
    } catch (error) {
      throw runtime.provider === "cpu" ? runtimeError(error, "compile") : providerError(error, runtime.provider);
    }
  }

  /**
   * Runs the graph. Blocks this thread while it computes.
   *
   * @param into tensors that outputs of these names are written to; the other outputs are new
   */
  async run(
    feeds: Readonly<Record<string, Tensor>>,
    into: Readonly<Record<string, Tensor>> = {},
  ): Promise<Record<string, Tensor>> {
    if (this.#released) throw new Error("the session was released");
    this.#watch?.(feeds);
    const tensors: Record<string, Ort.Tensor> = {};
    for (const name of this.#session.inputNames) {
      const feed = feeds[name];
      if (feed === undefined) throw new Error(`the graph needs an input ${name}`);
      tensors[name] = this.#tensor(feed);
    }
    const outputs = this.#session.outputNames.map((name) => [name, into[name] ?? null] as const);
    try {
      const fetches = outputs.map(([name, tensor]) => [name, tensor === null ? null : this.#tensor(tensor)] as const);
      const started = performance.now();
      const results = await this.#session.run(tensors, Object.fromEntries(fetches));
      secondsInGraphs += (performance.now() - started) / 1e3;
      const made = outputs.map(([name, given]) => (given === null ? (results[name]!.data as Float32Array) : null));
      noteAllocation(
        made.reduce((sum, data) => sum + (data?.byteLength ?? 0), 0),
        this.#garbageAllowance,
      );
      return Object.fromEntries(
        Object.entries(results).map(([name, tensor]) => [
          name,
          { type: tensor.type as Tensor["type"], shape: tensor.dims, data: tensor.data as Tensor["data"] },
        ]),
      );
    } catch (error) {
      throw runtimeError(error, "run");
    }
  }

  #tensor({ type, data, shape }: Tensor): Ort.Tensor {
    return new this.#ort.Tensor(type as "float32", data as Float32Array, shape);
  }

  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#session.release();
  }
}

/**
 * onnxruntime 1.30's transpose optimizer moves a Transpose through an Expand of lower rank and then gathers from a shape
 * that is too short ("indices element out of data bounds").
 */
const wrongOptimizers = "TransposeOptimizer";

/**
 * Version and providers of the installed onnxruntime, or why it cannot be used. A provider whose libraries npm's package
 * leaves out is said to be so: it works only where they were installed beside it.
 */
export async function probeRuntime(): Promise<{ version: string | null; providers: string[]; reason: string | null }> {
  try {
    const ort = await loadRuntime();
    const providers = ort
      .listSupportedBackends()
      .map(({ name, bundled }) => (name === "dml" ? "directml" : name) + (bundled ? "" : " (libraries not included)"));
    return { version: ort.env.versions.node ?? ort.env.versions.common, providers, reason: null };
  } catch (error) {
    return { version: null, providers: [], reason: error instanceof Error ? error.message : String(error) };
  }
}

/** A folder with another onnxruntime-node than our own, such as one with the CUDA libraries; null: our own. */
export function runtimePath(): string | null {
  const asked = process.env["REROUTE_ONNXRUNTIME_PATH"]?.trim() ?? "";
  return asked === "" ? null : asked;
}

/** Loaded on first use, so that inspection works on machines where it cannot load. */
async function loadRuntime(): Promise<typeof Ort> {
  try {
    const other = runtimePath();
    const ort = other === null ? await import("onnxruntime-node") : loadFrom(other);
    // What fails is thrown; onnxruntime would write it to stderr a second time, with places in its source.
    ort.env.logLevel = "fatal";
    return ort;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new RerouteError(
      "runtime/unavailable",
      `onnxruntime-node could not be loaded on ${process.platform}-${process.arch}: ${reason}. Inspection still works; profiling, compression by activations and calibration need it`,
      { cause: error },
    );
  }
}

/** The package in a folder: the folder itself, or the one that it was installed into. */
function loadFrom(folder: string): typeof Ort {
  const from = createRequire(path.join(folder, "package.json"));
  const isPackage = existsSync(path.join(folder, "script", "install.js"));
  return from(isPackage ? folder : "onnxruntime-node") as typeof Ort;
}

function runtimeError(error: unknown, action: "compile" | "run"): RerouteError {
  const reason = error instanceof Error ? error.message : String(error);
  return new RerouteError("runtime/failed", `onnxruntime could not ${action} a graph: ${reason}`, { cause: error });
}

/** What makes a provider work that does not. */
const wayToProvider: Record<Exclude<ExecutionProvider, "cpu">, string> = {
  cuda: "On Linux with CUDA 12 and cuDNN 9, install its libraries with `ONNXRUNTIME_NODE_INSTALL=cuda12 node node_modules/onnxruntime-node/script/install.js`",
  directml: "It is part of the package on Windows only",
  coreml: "It is part of the package on macOS only",
  webgpu: "It needs a graphics driver with Vulkan, Metal or Direct3D 12",
};

function providerError(error: unknown, provider: Exclude<ExecutionProvider, "cpu">): RerouteError {
  const reason = error instanceof Error ? error.message : String(error);
  return new RerouteError(
    "runtime/provider",
    `The execution provider ${provider} cannot be used on this machine: ${withoutSourceLines(reason)}. ${wayToProvider[provider]}. ` +
      'Or choose cpu: "provider" in the recipe, --provider, or the setting reroute.provider',
    { cause: error },
  );
}

/** The sentence of an onnxruntime error that says what is wrong, without the place in its source and the failed check. */
function withoutSourceLines(reason: string): string {
  const [line] = reason.trim().split("\n");
  return line!
    .replace(/^.*\bERR: /, "")
    .replace(/^.*\bwas false\. /, "")
    .replace(/^OrtSessionOptions\w+: /, "")
    .replace(/\.$/, "")
    .slice(0, 300);
}

/** The deepest folder that holds all files; null without files. onnxruntime resolves weight files against one folder. */
function commonFolder(files: readonly string[]): string | null {
  const folders = [...new Set(files.map((file) => path.dirname(file)))].map((folder) => folder.split(path.sep));
  const first = folders[0];
  if (first === undefined) return null;
  let depth = 0;
  while (depth < first.length && folders.every((parts) => parts[depth] === first[depth])) depth++;
  return first.slice(0, depth).join(path.sep) || path.sep;
}
