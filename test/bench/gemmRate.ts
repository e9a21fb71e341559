import { GraphBuilder } from "../../src/engine/graph/builder";
import { BlockSession, type RuntimeOptions } from "../../src/engine/runtime/session";

/** The machine's f32 matrix-product rate in FLOP/s: onnxruntime MatMul of [2048, 2048] x [2048, 2048], best of a few. */
export async function gemmRate(runtime: RuntimeOptions, repeats = 6): Promise<number> {
  const n = 2048;
  const builder = new GraphBuilder();
  const product = builder.matMul(builder.input("a", [n, n]), builder.input("b", [n, n]));
  const session = await BlockSession.create(builder.build({ product }), { runtime, keepFloat32Weights: false });
  const matrix = { type: "float32", shape: [n, n], data: new Float32Array(n * n).fill(0.1) } as const;
  const started = performance.now();
  for (let i = 0; i < repeats; i++) await session.run({ a: matrix, b: matrix });
  const seconds = (performance.now() - started) / 1e3 / repeats;
  await session.release();
  return (2 * n ** 3) / seconds;
}
