import { leadingSubspace } from "../../linalg/leadingEigen";
import { matrix, randomMatrix, type Matrix } from "../../linalg/matrix";
import { MatrixProducts } from "../../linalg/products";
import { symmetricEigen } from "../../linalg/symmetricEigen";
import { GraphBuilder } from "../../graph/builder";
import { BlockSession, type RuntimeOptions } from "../../runtime/session";

/** How fast this machine does what compression methods consist of, operations a second. */
export interface ComputeRates {
  /** Matrix products of the engine in float32 and float64: two operations a multiply-add. */
  float32: number;
  float64: number;
  /** Loops in plain code: one operation a multiply-add, as a small eigenproblem has them. */
  plain: number;
  /**
   * Rounds of a subspace iteration, by the float64 operations of their products (subspaceRound): panels of Cholesky in
   * plain code, many small products and freed memory take more than half of their time, which no other rate shows. Only
   * measured where a method has such rounds.
   */
  subspace?: number;
}

/** Large enough for the rate of larger ones, at an eighth of what 1024 takes of every start of a run. */
const size = 512;
const eigenSize = 160;
/** Size and block of the measured subspace iteration: between those of small models and of Qwen3's 768 and 365. */
const [subspaceSize, subspaceBlock] = [560, 272];
const measuredRounds = 6;

/** Measures the rates; about a fifth of a second, and one more with `withSubspace`. */
export async function measureComputeRates(runtime: RuntimeOptions, withSubspace = false): Promise<ComputeRates> {
  const products = new MatrixProducts(runtime);
  const builder = new GraphBuilder();
  const product = builder.matMul(builder.input("a", [size, size]), builder.input("b", [size, size]));
  const session = await BlockSession.create(builder.build({ product }), { runtime, keepFloat32Weights: false });
  try {
    const a = matrix(size, size, new Float32Array(size * size).fill(0.5));
    const feed = { type: "float32", shape: [size, size], data: Float32Array.from(a.data) } as const;
    const gram = await products.gramOfRows(randomMatrix(eigenSize, eigenSize + 5, 1));
    const operations = 2 * size ** 3;
    const float64 = operations / (await fastest(() => products.multiply(a, a)));
    return {
      float64,
      float32: operations / (await fastest(() => session.run({ a: feed, b: feed }))),
      plain: eigenOperations(eigenSize) / (await fastest(() => symmetricEigen(gram))),
      // A round cannot be faster than its products: what says so was disturbed.
      ...(withSubspace ? { subspace: Math.min(float64, await subspaceRate(products)) } : {}),
    };
  } finally {
    await products.close();
    await session.release();
  }
}

/** Multiply-adds of all eigenpairs of a symmetric matrix in plain code (linalg/symmetricEigen). */
export function eigenOperations(n: number): number {
  return 10 * n ** 3;
}

/**
 * Operations in products of one round of a subspace iteration (linalg/leadingEigen) on a matrix [n, n] whose spectrum
 * falls, so that its filter is of degree 1: the image of the basis, its projection, and orthonormalisation twice.
 */
export function subspaceRound(n: number, block: number): number {
  return 2 * block * n * n + 10 * block * block * n;
}

/** From a few rounds with their start, which takes about as long as one of them, and their end. */
async function subspaceRate(products: MatrixProducts): Promise<number> {
  const a = falling(subspaceSize);
  // 16 directions more are iterated than are asked for.
  const iterate = (maxIterations: number) =>
    leadingSubspace(products, a, subspaceBlock - 16, { tolerance: -1, maxIterations });
  await iterate(0);
  let seconds = Infinity;
  for (let repeat = 0; repeat < 2; repeat++) {
    const started = performance.now();
    await iterate(measuredRounds);
    seconds = Math.min(seconds, (performance.now() - started) / 1e3);
  }
  return ((measuredRounds + 1) * subspaceRound(subspaceSize, subspaceBlock)) / seconds;
}

/** A diagonal matrix whose eigenvalues fall over six decades, as those of few tokens' Gram matrix do. */
function falling(n: number): Matrix {
  const a = matrix(n, n);
  for (let i = 0; i < n; i++) a.data[i * n + i] = 10 ** ((-6 * i) / n);
  return a;
}

/** Seconds of the fastest of a few runs after one that warms up. */
async function fastest(work: () => unknown): Promise<number> {
  let best = Infinity;
  for (let round = 0; round < 4; round++) {
    const started = performance.now();
    await work();
    if (round > 0) best = Math.min(best, (performance.now() - started) / 1e3);
  }
  return best;
}
