import { paradigmOf, type CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { defaultBases } from "../editing/ranks";
import { plannedRanks } from "../editing/editingPlan";
import { projectionShape, projections } from "../layer/expertMatrices";
import { groupsOf, keptCount } from "../plan/keptCount";
import { moeLayers } from "../plan/moeLayers";
import { isPruningCriterion } from "../pruning/criteria";
import { eigenOperations, subspaceRound, type ComputeRates } from "./computeRates";

/** What a method does beyond profiling and writing: operations of each kind, and the largest it holds at once. */
export interface MethodCost {
  float32: number;
  float64: number;
  plain: number;
  /** Rounds of subspace iterations on weighted matrices, by operations in their products. */
  subspace: number;
  /** Passes of calibration text through the whole model, in tokens. */
  passTokens: number;
  /** Beyond a streaming pass: bytes of matrices and tables of one layer. */
  workingBytes: number;
}

/** Shape of one layer as methods see it. */
interface LayerShape {
  moe: MoeDescription;
  layer: number;
  /** Experts, hidden and intermediate size, experts a token, experts that stay. */
  K: number;
  H: number;
  I: number;
  k: number;
  kept: number;
  /** Calibration tokens that the method looks at. */
  T: number;
  /** Numbers of one expert. */
  weights: number;
}

/** Plain-code operations to decode, handle and encode one stored number. */
const touch = 12;
/** Tokens on which the output error of a merged or edited layer is measured, at most. */
const errorTokens = 8192;
/** What handing a small product to the engine costs, in plain-code operations. */
const callOperations = 5e5;
/** Rounds of a subspace iteration by energy, and products in each (linalg/leadingEigen): as seen on random weights. */
const subspaceRounds = 9;
const productsARound = 4;
/**
 * Rounds on weights times their inputs, whose spectrum falls: the filter is of degree 1, and gains less a round (15.6 counted
 * on an expert of 768 x 2048 that 256 of 4096 random tokens were routed to). The start takes about as long as a round.
 */
const weightedRounds = 16;
/** Directions iterated beyond those asked for (linalg/leadingEigen). */
const surplus = 16;

/**
 * Counts what a method does on a model, to leading order, from the shapes alone. Constants were set on one layer shaped
 * like Qwen3-30B-A3B's (`npm run bench methods` prints how far off they are); searches and iterations that depend on the
 * weights are counted as on random ones.
 */
export function methodCost(
  compress: CompressOptions,
  description: ModelDescription,
  tokens: { sequences: number; sequenceLength: number },
): MethodCost {
  const cost: MethodCost = { float32: 0, float64: 0, plain: 0, subspace: 0, passTokens: 0, workingBytes: 0 };
  const { method, options } = compress;
  const usesText = passes(compress);
  const sequences = Math.min(tokens.sequences, numberOf(options, "sequences", defaultSequences(method)));
  const T = sequences * tokens.sequenceLength;
  cost.passTokens = usesText * T;
  const ranks = paradigmOf(method) === "editing" ? plannedRanks(description, method, compress.keep, options) : {};
  for (const { layer, moe } of moeLayers(description)) {
    const { numExperts: K, numExpertsPerToken: k, intermediateSize: I } = moe;
    const H = description.hiddenSize;
    const kept = paradigmOf(method) === "editing" ? K : keptCount(compress.keep, layer, moe);
    const shape: LayerShape = { moe, layer, K, H, I, k, kept, T: usesText > 0 ? T : 0, weights: 3 * H * I };
    const of = layerCost(compress, shape, ranks[String(layer)] ?? {});
    cost.float32 += of.float32;
    cost.float64 += of.float64;
    cost.plain += of.plain;
    cost.subspace += of.subspace;
    cost.workingBytes = Math.max(cost.workingBytes, of.workingBytes);
  }
  return cost;
}

/**
 * Options under which a method holds less at once, the mildest change first: what a refusal for memory names. Methods that
 * are not listed have none.
 */
export const lighterOptions: Partial<Record<CompressOptions["method"], readonly CompressOptions["options"][]>> = {
  "hc-smoe": [{ zipLimit: 8 }, { zipLimit: 4 }, { merge: "fix-dominant" }, { merge: "average" }],
  "m-smoe": [{ merge: "average" }],
  cfes: [{ maxTokens: 1024 }, { maxTokens: 256 }],
  naee: [{ maxTokens: 1024 }, { maxTokens: 256 }],
};

/** Whether a method's cost has rounds of subspace iterations, whose rate is measured only then. */
export function iteratesSubspaces(method: CompressOptions["method"]): boolean {
  return method === "svd-llm" || method === "d2-moe";
}

/** Seconds of a method's own work at measured rates. */
export function secondsOf({ float32, float64, plain, subspace }: MethodCost, rates: ComputeRates): number {
  return (
    float32 / rates.float32 +
    float64 / rates.float64 +
    plain / rates.plain +
    subspace / (rates.subspace ?? rates.float64)
  );
}

type LayerCost = Omit<MethodCost, "passTokens">;

/** How many times a method runs text through the model. */
function passes({ method, options }: CompressOptions): number {
  if (isPruningCriterion(method) || method === "mone" || method === "svd" || method === "mobe") return 0;
  if (method === "m-smoe")
    return options["merge"] === "least-squares" || options["alignment"] === "activations" ? 1 : 0;
  return method === "hc-smoe" || method === "td-moe" ? 2 : 1;
}

function defaultSequences(method: CompressOptions["method"]): number {
  if (method === "ream") return 256;
  return paradigmOf(method) === "editing" ? 64 : 32;
}

function layerCost(compress: CompressOptions, s: LayerShape, ranks: Readonly<Record<string, number>>): LayerCost {
  const { method } = compress;
  if (method === "aimer") return { ...nothing, plain: s.K * s.weights * touch };
  if (method === "cfes" || method === "naee") return searchCost(compress, s);
  if (isPruningCriterion(method) || method === "mone") return nothing;
  return paradigmOf(method) === "merging" ? mergeCost(compress, s) : editCost(compress, s, ranks);
}

const nothing: LayerCost = { float32: 0, float64: 0, plain: 0, subspace: 0, workingBytes: 0 };

/** Every expert on the sampled tokens, then one selection and one weighted sum for each set that is looked at. */
function searchCost({ method, options }: CompressOptions, { K, H, k, kept, T, weights }: LayerShape): LayerCost {
  const tokens = Math.min(T, numberOf(options, "maxTokens", 2048));
  const columns = Math.min(H, 256);
  const leaving = K - kept;
  const greedy = (K * (K + 1) - kept * (kept + 1)) / 2;
  const evaluations = method === "naee" ? greedy : K + leaving * Math.ceil(Math.sqrt(K));
  return {
    float32: K * tokens * (2 * weights + 2 * H * columns),
    float64: 0,
    subspace: 0,
    plain: K * weights * touch + evaluations * tokens * (12 * K + (k + 4) * 2 * columns),
    workingBytes: K * tokens * columns * 4,
  };
}

function mergeCost({ method, options }: CompressOptions, s: LayerShape): LayerCost {
  const { moe, K, H, I, k, kept, T, weights } = s;
  const merged = K - kept;
  // Of one routing group, everything else being groups of one.
  const mostMembers = merged / groupsOf(moe) + 1;
  const rule = String(options["merge"] ?? (method === "hc-smoe" ? "zipit" : "average"));
  const alignment = method === "ream" ? "activations" : String(options["alignment"] ?? "none");
  // Members and their groups' first are read, added up and written.
  const touched = 2 * merged * weights;
  const cost = { ...nothing, plain: touched * touch, workingBytes: 8 * weights * 4 };
  // Routed tokens of the original and of the merged layer.
  cost.float32 += 2 * k * Math.min(T, errorTokens) * 2 * weights;
  if (method === "hc-smoe" || method === "ream") cost.float32 += K * T * 2 * weights;
  if (method === "ream") cost.float32 += k * T * 2 * 2 * weights;
  if (alignment !== "none") {
    // Inner products of units, and an assignment of I units.
    cost.float32 += merged * (2 * I * I * 3 * H + (alignment === "activations" ? 512 * 2 * weights : 0));
    cost.plain += merged * I ** 3;
  }
  const perGroup = (T * k) / Math.max(1, kept);
  if (rule === "least-squares") {
    cost.float32 += (merged + kept) * perGroup * 4 * weights;
    cost.float64 += merged * 3 * I ** 3;
    cost.plain += merged * I * I * 48;
  }
  if (rule === "zipit" || rule === "fix-dominant") {
    const width =
      rule === "zipit" ? Math.min(numberOf(options, "zipLimit", 16), 1 + merged / Math.max(1, kept / 4)) * I : 2 * I;
    cost.float32 += 2 * merged * perGroup * (width * width + 2 * weights);
    cost.plain += merged * width * width * (rule === "zipit" ? 60 : 10);
    const correlated = rule === "zipit" ? Math.min(numberOf(options, "zipLimit", 16), mostMembers) : 2;
    // A group's members and the expert made of them, f32; the Gram matrix of their units, f64, and its correlation, f32.
    const held = (mostMembers + 2) * weights * 4 + 12 * (Math.max(2, correlated) * I) ** 2;
    if (merged > 0) cost.workingBytes = Math.max(cost.workingBytes, held);
  }
  return cost;
}

function editCost(
  { method, options }: CompressOptions,
  s: LayerShape,
  ranks: Readonly<Record<string, number>>,
): LayerCost {
  const { moe, K, H, k, T, weights } = s;
  const cost = { ...nothing, plain: K * weights * touch * 2, workingBytes: 0 };
  if (T > 0) cost.float32 += 2 * k * Math.min(T, errorTokens) * 2 * weights;
  for (const projection of projections) {
    const [m, n] = projectionShape({ ...moe, hiddenSize: H }, projection);
    const [small, large] = [Math.min(m, n), Math.max(m, n)];
    const rank = ranks[projection] ?? 0;
    if (method === "td-moe") {
      const [r2, r3] = [
        Math.min(m, ranks[`${projection}.outputs`] ?? 0),
        Math.min(n, ranks[`${projection}.inputs`] ?? 0),
      ];
      if (r2 * r3 === 0) continue;
      add(cost, tuckerCost(K, m, n, r2, r3));
      cost.float64 += gramProducts(s, projection, n);
    } else if (method === "mobe") {
      if (rank === 0) continue;
      const bases = ranks[`${projection}.bases`] ?? defaultBases(K);
      const numbers = K * m * rank + bases * rank * n;
      const steps = typeof options["steps"] === "number" ? options["steps"] : 1000;
      cost.float32 += steps * 6 * K * (m * rank * n + bases * rank * n);
      // Adam's update of every number, phi and its derivative on every expert's mixed basis, and the calls.
      const batches = Math.ceil(K / numberOf(options, "batch", 32));
      cost.plain += steps * (numbers * 8 + K * rank * n * 8 + batches * 8 * callOperations);
      cost.plain += bases * eigenOperations(rank + 16);
      cost.float64 += K * 2 * m * n * (n + rank) + bases * subspace(n, rank + 16);
      cost.workingBytes = Math.max(cost.workingBytes, 4 * (7 * numbers + K * m * n) + 8 * n * n * 4);
    } else if (rank > 0) {
      const block = rank + surplus;
      cost.float64 += K * (2 * small * small * large + 4 * rank * m * n);
      cost.plain += K * 12 * callOperations;
      if (method === "svd") {
        cost.float64 += K * subspace(small, block);
        // Cholesky's panels.
        cost.plain += K * subspaceRounds * 3 * 48 * block ** 2;
      } else {
        const isDirect = small <= 256 || block > 0.8 * small;
        if (isDirect) cost.plain += K * eigenOperations(small);
        else cost.subspace += K * (1 + weightedRounds) * subspaceRound(small, block);
        // Wider than tall, the end is an eigenproblem.
        if (!isDirect && small !== m) cost.plain += K * eigenOperations(block);
        cost.float64 += K * (small === m ? 2 * m * n * n : n ** 3 + 2 * m * n * n) + K * gramProducts(s, projection, n);
      }
      cost.workingBytes = Math.max(cost.workingBytes, 8 * (4 * n * n + 6 * m * n));
    }
  }
  return cost;
}

/** Spectra for the plan and for the edit, cores of every expert, and two rounds of alternating updates. */
function tuckerCost(K: number, m: number, n: number, r2: number, r3: number): LayerCost {
  const spectra = K * 2 * (m * n * n + m * m * n + m * n * n) + dense(m, r2).float64 + dense(n, r3).float64;
  const plainSpectra = dense(m, r2).plain + dense(n, r3).plain;
  const cores = K * 2 * (m * n * n + r2 * m * n + r2 * n * r3);
  const rounds = 2 * K * 2 * (3 * r2 * r3 * r3 + 2 * r2 * r2 * r3);
  return {
    float32: 0,
    subspace: 0,
    float64: 2 * spectra + cores + rounds + K * 2 * (m * r2 * r3 + m * r3 * n),
    plain:
      K * 40 * callOperations +
      2 * plainSpectra +
      2 * (eigenOperations(r2) + eigenOperations(r3)) +
      K * (m * n * 10 + r2 * r3),
    workingBytes: 8 * (2 * K * r2 * r3 + 6 * n * n) + K * r2 * r3 * 4,
  };
}

/** Leading eigenpairs of a matrix: by products where few are wanted, in plain code where nearly all are. */
function dense(n: number, rank: number): { float64: number; plain: number } {
  const block = rank + 16;
  if (block > 0.8 * n || n <= 256) return { float64: 0, plain: eigenOperations(n) };
  return { float64: subspace(n, block), plain: eigenOperations(block) };
}

function subspace(n: number, block: number): number {
  return subspaceRounds * (productsARound * 2 * block * n * n + 10 * block * block * n);
}

/** float64 work of one Gram matrix, counted from its float32 product. */
function gramProducts({ K, k, T, weights }: LayerShape, projection: string, n: number): number {
  const tokens = (T * k) / K + 64;
  return (
    tokens * 2 * n * n + (projection === "downProj" ? (tokens + Math.min(T, 2048)) * (2 * weights + 2 * n * n) : 0)
  );
}

function add(sum: LayerCost, part: LayerCost): void {
  sum.float32 += part.float32;
  sum.float64 += part.float64;
  sum.plain += part.plain;
  sum.subspace += part.subspace;
  sum.workingBytes = Math.max(sum.workingBytes, part.workingBytes);
}

function numberOf(options: CompressOptions["options"], name: string, otherwise: number): number {
  const value = options[name];
  return typeof value === "number" && value > 0 ? value : otherwise;
}
