import { matrix, randomMatrix } from "../linalg/matrix";
import { MatrixProducts } from "../linalg/products";
import { symmetricEigen } from "../linalg/symmetricEigen";
import { GraphBuilder } from "../../graph/builder";
import { BlockSession, type RuntimeOptions } from "../../runtime/session";

/** How fast this machine does what compression methods consist of, operations a second. */
export interface ComputeRates {
  /** Matrix products of the engine in float32 and float64: two operations a multiply-add. */
  float32: number;
  float64: number;
  /** Loops in plain code: one operation a multiply-add, as a small eigenproblem has them. */
  plain: number;
}

const size = 1024;
const eigenSize = 160;

/** Measures the rates; about half a second. */
export async function measureComputeRates(runtime: RuntimeOptions): Promise<ComputeRates> {
  const products = new MatrixProducts(runtime);
  const builder = new GraphBuilder();
  const product = builder.matMul(builder.input("a", [size, size]), builder.input("b", [size, size]));
  const session = await BlockSession.create(builder.build({ product }), { runtime, keepFloat32Weights: false });
  try {
    const a = matrix(size, size, new Float32Array(size * size).fill(0.5));
    const feed = { type: "float32", shape: [size, size], data: Float32Array.from(a.data) } as const;
    const gram = await products.gramOfRows(randomMatrix(eigenSize, eigenSize + 5, 1));
    const operations = 2 * size ** 3;
    return {
      float64: operations / (await fastest(() => products.multiply(a, a))),
      float32: operations / (await fastest(() => session.run({ a: feed, b: feed }))),
      plain: eigenOperations(eigenSize) / (await fastest(() => symmetricEigen(gram))),
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
