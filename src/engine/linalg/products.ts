import { GraphBuilder } from "../graph/builder";
import { BlockSession, type RuntimeOptions } from "../runtime/session";
import { matrix, type Matrix } from "./matrix";

/** Below this many multiply-adds a call into the engine costs more than the product. */
const smallProduct = 50_000;

/**
 * Matrix products in float64 on the engine (onnxruntime's GEMM): what every decomposition of a large matrix here is bound
 * by. One compiled session for each combination of transposes, sizes left open.
 */
export class MatrixProducts {
  readonly #sessions = new Map<string, Promise<BlockSession>>();

  constructor(readonly runtime: RuntimeOptions) {}

  /** op(a) op(b), where op transposes as asked. */
  async multiply(a: Matrix, b: Matrix, transA = false, transB = false): Promise<Matrix> {
    const [rows, inner] = transA ? [a.columns, a.rows] : [a.rows, a.columns];
    const [innerB, columns] = transB ? [b.columns, b.rows] : [b.rows, b.columns];
    if (inner !== innerB) throw new Error(`product of [${rows}, ${inner}] and [${innerB}, ${columns}]`);
    if (rows === 0 || columns === 0 || inner === 0) return matrix(rows, columns);
    if (rows * inner * columns <= smallProduct) return smallMultiply(a, b, transA, transB, rows, inner, columns);
    const session = await this.#session(transA, transB);
    const feed = (m: Matrix) => ({ type: "float64" as const, shape: [m.rows, m.columns], data: m.data });
    const { c } = await session.run({ a: feed(a), b: feed(b) });
    return { rows, columns, data: c!.data as Float64Array };
  }

  /** a a^T, exactly symmetric. */
  async gramOfRows(a: Matrix): Promise<Matrix> {
    return symmetrised(await this.multiply(a, a, false, true));
  }

  /** a^T a, exactly symmetric. */
  async gramOfColumns(a: Matrix): Promise<Matrix> {
    return symmetrised(await this.multiply(a, a, true, false));
  }

  async close(): Promise<void> {
    const made = await Promise.allSettled(this.#sessions.values());
    this.#sessions.clear();
    for (const session of made) if (session.status === "fulfilled") await session.value.release();
  }

  #session(transA: boolean, transB: boolean): Promise<BlockSession> {
    const key = `${transA} ${transB}`;
    let session = this.#sessions.get(key);
    if (session === undefined) {
      const builder = new GraphBuilder("float64");
      const a = builder.input("a", transA ? ["K", "M"] : ["M", "K"]);
      const b = builder.input("b", transB ? ["N", "K"] : ["K", "N"]);
      session = BlockSession.create(builder.build({ c: builder.gemm(a, b, transA, transB) }), {
        runtime: this.runtime,
        keepFloat32Weights: false,
      });
      this.#sessions.set(key, session);
      // What failed is not there to be given back, and may be tried again.
      session.catch(() => this.#sessions.delete(key));
    }
    return session;
  }
}

function smallMultiply(
  a: Matrix,
  b: Matrix,
  transA: boolean,
  transB: boolean,
  m: number,
  k: number,
  n: number,
): Matrix {
  const result = matrix(m, n);
  const [aRow, aStep] = transA ? [1, a.columns] : [a.columns, 1];
  const [bRow, bStep] = transB ? [1, b.columns] : [b.columns, 1];
  for (let i = 0; i < m; i++) {
    for (let p = 0; p < k; p++) {
      const value = a.data[i * aRow + p * aStep]!;
      if (value === 0) continue;
      for (let j = 0; j < n; j++) result.data[i * n + j]! += value * b.data[p * bRow + j * bStep]!;
    }
  }
  return result;
}

function symmetrised(square: Matrix): Matrix {
  const { rows: n, data } = square;
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      const mean = (data[i * n + j]! + data[j * n + i]!) / 2;
      data[i * n + j] = mean;
      data[j * n + i] = mean;
    }
  }
  return square;
}
