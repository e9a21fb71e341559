import { createHash } from "node:crypto";
import { cpus } from "node:os";
import { GraphBuilder } from "../graph/builder";
import { BlockSession, probeRuntime, type RuntimeOptions } from "../runtime/session";
import { bytesOf } from "../tensor/floatCodec";
import { createRandom } from "../tensor/random";
import { float32, floats } from "./tensors";

/** What tells this machine's arithmetic from others': two with the same hash give the same bits. */
export interface Numerics {
  /** SHA-256 of the outputs of a fixed graph, with the versions that made them. */
  hash: string;
  /** For people: onnxruntime, provider and processor. */
  about: string;
  /** Whether rows of a product do not depend on the rows beside them (from two rows on), as sums by leaves need. */
  rowsAreIndependent: boolean;
}

const [inner, outer] = [256, 320];
/** The last is all rows; the others are compared with its first ones. */
const rowCounts = [2, 3, 51, 400];

/**
 * Runs products, softmax, norm, exponential and sums over rows, on numbers that are the same everywhere: half a second.
 * onnxruntime chooses its kernels by the processor, and promises the same bits on no two machines.
 */
export async function measureNumerics(runtime: RuntimeOptions): Promise<Numerics> {
  const random = createRandom(20_260_217);
  const numbers = (count: number) => Float32Array.from({ length: count }, () => random.normal());
  const most = rowCounts.at(-1)!;
  const x = numbers(most * inner);
  const feeds = { weight: float32(numbers(outer * inner), [outer, inner]), scale: float32(numbers(outer), [outer]) };
  const session = await BlockSession.create(fixedGraph(), { runtime, keepFloat32Weights: false });
  const hash = createHash("sha256");
  const { version } = await probeRuntime();
  hash.update(`${version} ${runtime.provider}`);
  const byRows: Float32Array[] = [];
  try {
    for (const rows of rowCounts) {
      const outputs = await session.run({ ...feeds, x: float32(x.subarray(0, rows * inner), [rows, inner]) });
      for (const name of Object.keys(outputs).sort()) hash.update(bytesOf(floats(outputs[name]!)));
      byRows.push(floats(outputs["normed"]!).slice());
    }
  } finally {
    await session.release();
  }
  const all = byRows.at(-1)!;
  return {
    hash: hash.digest("hex"),
    about: `onnxruntime ${version ?? "?"} ${runtime.provider} on ${cpus()[0]?.model.trim() ?? process.arch}`,
    rowsAreIndependent: byRows.every((rows) => rows.every((value, i) => value === all[i])),
  };
}

function fixedGraph() {
  const builder = new GraphBuilder();
  const x = builder.input("x", ["T", inner]);
  const weight = builder.input("weight", [outer, inner]);
  const product = builder.gemm(x, weight, false, true);
  const gated = builder.mul(product, builder.sigmoid(product));
  const normed = builder.rmsNorm(
    builder.add(gated, builder.exp(builder.softmax(product))),
    builder.input("scale", [outer]),
    1e-6,
  );
  return builder.build({
    normed,
    back: builder.gemm(normed, weight),
    gradient: builder.gemm(normed, x, true, false),
    sum: builder.reduceSum(normed, [0], true),
  });
}
