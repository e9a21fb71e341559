/** Names of compression methods, by what becomes of the experts. */

export const pruningMethods = [
  "reap",
  "frequency",
  "weighted-frequency",
  "ean",
  "aimer",
  "random",
  "cfes",
  "naee",
  "easy-ep",
  "mone",
  "ablation",
] as const;
export const editingMethods = ["svd", "svd-llm", "mobe", "td-moe", "d2-moe"] as const;
export const mergingMethods = ["hc-smoe", "m-smoe", "ream"] as const;
/** Weights inside experts become zero. */
export const sparsityMethods = ["magnitude", "wanda", "moe-pruner", "sparsegpt"] as const;
/** Intermediate units of experts leave. */
export const neuronMethods = ["neurons"] as const;
/** Weights of routers become zero, or are rounded. */
export const routerMethods = ["router-columns", "router-weights", "router-rtn"] as const;
/** Weights of experts become codes with scales. */
export const quantisationMethods = ["rtn", "gptq", "awq", "fp8", "mxfp4"] as const;
export const compressionMethods = [
  ...pruningMethods,
  ...editingMethods,
  ...mergingMethods,
  ...sparsityMethods,
  ...neuronMethods,
  ...routerMethods,
  ...quantisationMethods,
] as const;
export type CompressionMethod = (typeof compressionMethods)[number];

/** What becomes of the experts, and by which methods. */
const paradigms = {
  pruning: pruningMethods,
  editing: editingMethods,
  merging: mergingMethods,
  sparsity: sparsityMethods,
  neurons: neuronMethods,
  router: routerMethods,
  quantisation: quantisationMethods,
} satisfies Record<string, readonly CompressionMethod[]>;
export type Paradigm = keyof typeof paradigms;

export function paradigmOf(method: CompressionMethod): Paradigm {
  const rows = Object.entries(paradigms) as [Paradigm, readonly CompressionMethod[]][];
  return rows.find(([, methods]) => methods.includes(method))![0];
}

/** Whether a ratio says nothing to a method: its options alone say how small things become. */
export function hasNoRatio(method: CompressionMethod): boolean {
  return paradigmOf(method) === "quantisation" || method === "router-rtn";
}
