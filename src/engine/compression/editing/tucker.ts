import { throwIfCancelled } from "../../../protocol/errors";
import type { Projection } from "../layer/expertMatrices";
import { cholesky, invertLower } from "../../linalg/cholesky";
import { leadingEigen } from "../../linalg/leadingEigen";
import { identity, matrix, rowsOf, squaredNorm, toFloat32, trace, transpose, type Matrix } from "../../linalg/matrix";
import type { MatrixProducts } from "../../linalg/products";
import { createRandom } from "../../tensor/random";
import { shapeOf, weightOf, type EditedProjection, type EditWorkspace } from "./editWorkspace";
import { tuckerRankChoices, type TuckerRanks } from "./ranks";

/** T_w,k = W_k root; W_k comes back as T_w,k inverse. */
interface Whitening {
  root: Matrix;
  inverse: Matrix;
}

/** Rounds of alternating updates, and when they stop: the change of the kept energy. */
const hooi = { rounds: 10, tolerance: 1e-6 };

/**
 * TD-MoE (ICLR 2026): the experts' matrices stacked to a tensor [K, m, n], whitened along the inputs, and cut to Tucker
 * form by higher-order orthogonal iteration. The paper prints Sigma^(-1/2) as whitening; the error that activations see is
 * weighted by Sigma^(+1/2), which is the default here (a test compares both). Whitening of outputs by gradient covariance
 * is not done. The iteration runs on the tensor already cut to its leading output and input directions, so that experts
 * are read twice, one at a time.
 */
export async function editByTucker(
  workspace: EditWorkspace,
  projection: Projection,
  ranks: TuckerRanks,
  exponent: "positive" | "negative",
): Promise<EditedProjection> {
  const { products, moe, context } = workspace;
  const whitening = await whiteningOf(workspace, projection, exponent);
  const K = moe.numExperts;
  const form = await spectra(workspace, projection, whitening, ranks.outputs, ranks.inputs);
  const cores: Matrix[] = [];
  for (let e = 0; e < K; e++) {
    throwIfCancelled(context.signal);
    const whitened = await products.multiply(await weightOf(workspace, e, projection), whitening.root);
    cores.push(await products.multiply(await products.multiply(form.outputs, whitened), form.inputs, false, true));
  }
  const tucker = await iterate(products, cores, ranks, context.signal);
  const left = transpose(await products.multiply(tucker.outputs, form.outputs));
  const right = await products.multiply(await products.multiply(tucker.inputs, form.inputs), whitening.inverse);
  const [m, n] = shapeOf(workspace, projection);
  const [r1, r2, r3] = [tucker.experts.rows, left.columns, right.rows];
  const core = new Float32Array(r1 * r2 * r3);
  tucker.core.forEach(({ data }, a) => core.set(data, a * r2 * r3));
  return {
    form: "tucker",
    shared: {
      left: { shape: [m, r2], values: toFloat32(left) },
      core: { shape: [r1, r2, r3], values: core },
      right: { shape: [r3, n], values: toFloat32(right) },
    },
    ownShapes: { mixture: [r1] },
    ofExpert: async (expert) => {
      const mixture = Float32Array.from({ length: r1 }, (_, a) => tucker.experts.data[a * K + expert]!);
      const own = mix(tucker.core, tucker.experts, expert);
      const dense = toFloat32(await products.multiply(await products.multiply(left, own), right));
      return { dense, own: { mixture } };
    },
  };
}

/**
 * Ranks that meet the budget: expert and output ranks on a grid (all, 3/4, 1/2), the input rank by the printed formula,
 * and of these the one whose discarded energies over the three directions add up to least.
 */
export async function chooseTuckerRanks(
  workspace: EditWorkspace,
  projection: Projection,
  keep: number,
  exponent: "positive" | "negative",
): Promise<TuckerRanks | null> {
  const { products, moe } = workspace;
  const [m, n] = shapeOf(workspace, projection);
  const K = moe.numExperts;
  const options = tuckerRankChoices(keep, K, m, n);
  if (options.length < 2) return options[0] ?? null;
  const whitening = await whiteningOf(workspace, projection, exponent);
  const { outputValues, inputValues, total, expertGram } = await spectra(
    workspace,
    projection,
    whitening,
    m,
    Math.max(...options.map((o) => o.inputs)),
  );
  const expertValues = (await leadingEigen(products, expertGram, K)).values;
  const left = (values: Float64Array, rank: number) => total - values.slice(0, rank).reduce((sum, v) => sum + v, 0);
  const error = (o: TuckerRanks) =>
    left(expertValues, o.experts) + left(outputValues, o.outputs) + left(inputValues, o.inputs);
  return options.reduce((best, option) => (error(option) < error(best) ? option : best));
}

/** Leading output and input directions of the whitened experts together, and the Gram matrix of the experts. */
async function spectra(
  workspace: EditWorkspace,
  projection: Projection,
  { root }: Whitening,
  outputRank: number,
  inputRank: number,
) {
  const { products, moe, context } = workspace;
  const [m, n] = shapeOf(workspace, projection);
  const K = moe.numExperts;
  const outputGram = matrix(m, m);
  const inputGram = matrix(n, n);
  const sketches: Float64Array[] = [];
  for (let e = 0; e < K; e++) {
    throwIfCancelled(context.signal);
    const whitened = await products.multiply(await weightOf(workspace, e, projection), root);
    add(outputGram, await products.gramOfRows(whitened));
    add(inputGram, await products.gramOfColumns(whitened));
    const positions = sketchPositions(m * n, sketchSize, context.seed);
    sketches.push(positions.map((at) => whitened.data[at]! * Math.sqrt((m * n) / positions.length)));
  }
  const expertGram = matrix(K, K);
  for (let i = 0; i < K; i++) {
    for (let j = 0; j < K; j++) {
      expertGram.data[i * K + j] = sketches[i]!.reduce((sum, value, p) => sum + value * sketches[j]![p]!, 0);
    }
  }
  const outputs = await leadingEigen(products, outputGram, outputRank, { stop: "energy" });
  const inputs = await leadingEigen(products, inputGram, inputRank, { stop: "energy" });
  return {
    outputs: outputs.vectors,
    outputValues: outputs.values,
    inputs: inputs.vectors,
    inputValues: inputs.values,
    expertGram,
    total: trace(outputGram),
  };
}

/** Entries of an expert's matrix that stand for all of them in inner products of experts: bounded memory. */
const sketchSize = 2 ** 18;

/**
 * All positions of `length` entries, or `limit` of them: a seeded one from each of `limit` equal stretches. A regular stride
 * would be a sample of columns wherever it divides the width.
 */
export function sketchPositions(length: number, limit: number, seed: number): Float64Array {
  if (length <= limit) return Float64Array.from({ length }, (_, i) => i);
  const random = createRandom(seed, 31);
  return Float64Array.from({ length: limit }, (_, i) => Math.floor(((i + random.uniform()) * length) / limit));
}

/** Higher-order orthogonal iteration on K matrices [m, n] held in memory. */
async function iterate(products: MatrixProducts, cores: Matrix[], ranks: TuckerRanks, signal: AbortSignal | undefined) {
  const [m, n] = [cores[0]!.rows, cores[0]!.columns];
  const K = cores.length;
  let experts = identity(K);
  let outputs = firstRows(identity(m), ranks.outputs);
  let inputs = firstRows(identity(n), ranks.inputs);
  let energy = -1;
  for (let round = 0; round < hooi.rounds; round++) {
    throwIfCancelled(signal);
    if (ranks.experts < K) {
      const small = await Promise.all(
        cores.map(async (c) => products.multiply(await products.multiply(outputs, c), inputs, false, true)),
      );
      const stacked = matrix(K, small[0]!.data.length);
      small.forEach((s, e) => stacked.data.set(s.data, e * s.data.length));
      experts = (await leadingEigen(products, await products.gramOfRows(stacked), ranks.experts)).vectors;
    }
    const mixed = ranks.experts < K ? mixAll(cores, experts) : cores;
    const outputGram = matrix(m, m);
    for (const c of mixed) add(outputGram, await products.gramOfRows(await products.multiply(c, inputs, false, true)));
    outputs = (await leadingEigen(products, outputGram, ranks.outputs, { stop: "energy" })).vectors;
    const inputGram = matrix(n, n);
    for (const c of mixed) add(inputGram, await products.gramOfColumns(await products.multiply(outputs, c)));
    inputs = (await leadingEigen(products, inputGram, ranks.inputs, { stop: "energy" })).vectors;
    const core: Matrix[] = [];
    for (const c of mixed) core.push(await products.multiply(await products.multiply(outputs, c), inputs, false, true));
    const kept = core.reduce((sum, c) => sum + squaredNorm(c), 0);
    if (kept - energy <= hooi.tolerance * kept || round === hooi.rounds - 1) return { core, experts, outputs, inputs };
    energy = kept;
  }
  throw new Error("unreachable");
}

async function whiteningOf(
  workspace: EditWorkspace,
  projection: Projection,
  exponent: "positive" | "negative",
): Promise<Whitening> {
  const { products, grams, moe } = workspace;
  const [, n] = shapeOf(workspace, projection);
  if (grams === null) return { root: identity(n), inverse: identity(n) };
  let gram: Matrix;
  if (projection === "downProj") {
    gram = matrix(n, n);
    for (let e = 0; e < moe.numExperts; e++) add(gram, await grams.expertIntermediates(e));
  } else {
    const layer = await grams.layerInputs();
    gram = matrix(n, n, layer.data);
  }
  // The paper clips eigenvalues at 1e-3 of the mean; adding it bounds the condition in the same way.
  const floor = trace(gram) > 0 ? (1e-3 * trace(gram)) / n : 1;
  for (let i = 0; i < n; i++) gram.data[i * n + i]! += floor;
  const { lower } = await cholesky(products, gram);
  const inverse = await invertLower(products, lower);
  return exponent === "positive" ? { root: lower, inverse } : { root: transpose(inverse), inverse: transpose(lower) };
}

/** sum_a experts[a, k] core_a: the core of expert k. */
function mix(core: readonly Matrix[], experts: Matrix, k: number): Matrix {
  const result = matrix(core[0]!.rows, core[0]!.columns);
  core.forEach((c, a) => {
    const share = experts.data[a * experts.columns + k]!;
    if (share !== 0) for (let i = 0; i < c.data.length; i++) result.data[i]! += share * c.data[i]!;
  });
  return result;
}

/** sum_k experts[a, k] C_k for each row a. */
function mixAll(cores: readonly Matrix[], experts: Matrix): Matrix[] {
  return Array.from({ length: experts.rows }, (_, a) => {
    const result = matrix(cores[0]!.rows, cores[0]!.columns);
    cores.forEach((c, k) => {
      const share = experts.data[a * experts.columns + k]!;
      for (let i = 0; i < c.data.length; i++) result.data[i]! += share * c.data[i]!;
    });
    return result;
  });
}

function add(sum: Matrix, part: Matrix): void {
  for (let i = 0; i < sum.data.length; i++) sum.data[i]! += part.data[i]!;
}

function firstRows(m: Matrix, count: number): Matrix {
  return rowsOf(m, 0, Math.min(count, m.rows));
}
