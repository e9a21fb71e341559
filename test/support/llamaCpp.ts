import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

/** What the tests ask of a real llama.cpp. */
export interface LlamaCpp {
  /** Probabilities of the next token behind each of some tokens, [tokens, vocabulary]; the file must load. */
  probabilities: (file: string, ids: readonly number[]) => Promise<Float32Array[]>;
  tokenize: (file: string, texts: readonly string[]) => Promise<number[][]>;
}

/** The native part of node-llama-cpp, as far as it is used here (dist/bindings/AddonTypes.d.ts of 3.22.1). */
interface Addon {
  setLogger: (log: (level: number, message: string) => void) => void;
  loadBackends: (folder?: string) => void;
  init: () => Promise<void>;
  AddonModel: new (file: string, options: object) => AddonModel;
  AddonContext: new (model: AddonModel, options: object) => AddonContext;
  AddonSampler: new (model: AddonModel) => { applyConfig: (config: object) => void; dispose: () => void };
}

interface AddonModel {
  init: () => Promise<boolean>;
  tokenize: (text: string, special: boolean) => Uint32Array;
  dispose: () => Promise<void>;
}

interface AddonContext {
  init: () => Promise<boolean>;
  initBatch: (size: number) => void;
  addToBatch: (sequence: number, first: number, tokens: Uint32Array, logits: Uint32Array) => Uint32Array;
  decodeBatch: () => Promise<void>;
  sampleToken: (...request: unknown[]) => Promise<[unknown, unknown, unknown, number[]]>;
  dispose: () => Promise<void>;
}

const folder = path.join(__dirname, "../../node_modules/@node-llama-cpp/linux-x64/bins/linux-x64");
let loaded: Promise<{ llama: LlamaCpp } | { reason: string }> | null = null;

/** llama.cpp from @node-llama-cpp's prebuilt binary, or why this machine cannot load it. */
export function loadLlamaCpp(): Promise<{ llama: LlamaCpp } | { reason: string }> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<{ llama: LlamaCpp } | { reason: string }> {
  const file = path.join(folder, "llama-addon.node");
  if (!existsSync(file)) return { reason: "no prebuilt llama.cpp is installed for this platform" };
  try {
    const addon = createRequire(__filename)(file) as Addon;
    const said: string[] = [];
    addon.setLogger((_level, message) => said.push(message));
    addon.loadBackends();
    addon.loadBackends(folder);
    await addon.init();
    return { llama: llamaOf(addon, said) };
  } catch (error) {
    return { reason: `llama.cpp cannot be loaded: ${error instanceof Error ? error.message : String(error)}` };
  }
}

function llamaOf(addon: Addon, said: string[]): LlamaCpp {
  const withModel = async <T>(file: string, use: (model: AddonModel) => Promise<T>): Promise<T> => {
    said.length = 0;
    const model = new addon.AddonModel(file, { gpuLayers: 0, useMmap: true, checkTensors: true });
    if (!(await model.init().catch(() => false)))
      throw new Error(`llama.cpp refused ${file}:\n${said.slice(-12).join("")}`);
    try {
      return await use(model);
    } finally {
      await model.dispose();
    }
  };
  return {
    tokenize: (file, texts) => withModel(file, async (model) => texts.map((text) => [...model.tokenize(text, true)])),
    probabilities: (file, ids) =>
      withModel(file, async (model) => {
        const size = Math.max(64, ids.length);
        const context = new addon.AddonContext(model, {
          contextSize: 256,
          batchSize: size,
          sequences: 1,
          threads: 1,
          ...exact,
        });
        if (!(await context.init())) throw new Error(`no context: ${said.slice(-12).join("")}`);
        const sampler = new addon.AddonSampler(model);
        sampler.applyConfig({ temperature: 1 });
        try {
          context.initBatch(size);
          const every = Uint32Array.from(ids, (_, i) => i);
          const places = context.addToBatch(0, 0, Uint32Array.from(ids), every);
          await context.decodeBatch();
          const rows: Float32Array[] = [];
          for (const place of places) {
            const [, , , logits] = await context.sampleToken(place, sampler, false, false, true);
            rows.push(softmaxOfPairs(logits));
          }
          return rows;
        } finally {
          await context.dispose();
        }
      }),
  };
}

/** Keys and values as F32, and attention as written. */
const exact = { kvCacheKeyType: 0, kvCacheValueType: 0, flashAttention: false };

/** Softmax of logits that are given as token, logit, token, logit, ... */
function softmaxOfPairs(pairs: readonly number[]): Float32Array {
  const logits = new Float32Array(pairs.length / 2);
  for (let i = 0; i < pairs.length; i += 2) logits[pairs[i]!] = pairs[i + 1]!;
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((total, value) => total + Math.exp(value - most), 0);
  return logits.map((value) => Math.exp(value - most) / sum);
}
