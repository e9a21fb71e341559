import { RerouteError } from "../../protocol/errors";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { quote } from "../checkpoint/quote";
import { readFloat32 } from "../checkpoint/read";
import { BlockWeights } from "../graph/blocks/weights";
import { GraphBuilder } from "../graph/builder";
import type { WeightView } from "../model/description";
import { BlockSession, type RuntimeOptions } from "../runtime/session";
import { elementCount } from "../tensor/dtype";
import type { TensorPart } from "./ggufTensors";

/** Weights read at a time where rows may come one after the other. */
const chunkWeights = 4 * 2 ** 20;

/**
 * The rows of a part in the order of the file, some at a time: what is stored in a quantised form as the numbers that it stands
 * for. @throws RerouteError checkpoint/not-finite
 */
export async function* partValues(
  checkpoint: Checkpoint,
  part: TensorPart,
  runtime: RuntimeOptions,
): AsyncGenerator<Float32Array> {
  const { view, layout, half, pairedHeads, plusOne, ofHeads } = part;
  const columns = view.shape.at(-1)!;
  const inPlace = layout === "out-in" && [half, pairedHeads, ofHeads].every((change) => change === undefined);
  if (view.quantisation === undefined && inPlace) {
    const entry = checkpoint.tensors.get(view.tensor)!;
    const total = elementCount(view.shape);
    const step = Math.max(1, Math.floor(chunkWeights / columns)) * columns;
    for (let done = 0; done < total; done += step) {
      const values = await readFloat32(entry, { offset: view.offset + done, count: Math.min(step, total - done) });
      yield finite(plusOne ? values.map((value) => value + 1) : values, view);
    }
    return;
  }
  let values = await decoded(checkpoint, view, runtime);
  let rows = view.shape.length === 1 ? values.length : view.shape[0]!;
  if (layout === "in-out") {
    values = transposed(values, rows, columns);
    rows = columns;
  }
  const width = values.length / rows;
  if (half) values = takeRows(values, width, halfRows(rows, half));
  if (pairedHeads !== undefined) values = takeRows(values, width, pairedRows(rows, pairedHeads));
  if (ofHeads) values = partOfHeads(values, width, ofHeads);
  yield finite(values, view);
}

/** Some rows of every head, each head's matrix turned where asked for. */
function partOfHeads(
  values: Float32Array,
  width: number,
  { count, from, rows, isTurned }: NonNullable<TensorPart["ofHeads"]>,
): Float32Array {
  const [head, part] = [values.length / count, rows * width];
  const result = new Float32Array(count * part);
  for (let h = 0; h < count; h++) {
    const own = values.subarray(h * head + from * width, h * head + from * width + part);
    result.set(isTurned ? transposed(own, rows, width) : own, h * part);
  }
  return result;
}

async function decoded(checkpoint: Checkpoint, view: WeightView, runtime: RuntimeOptions): Promise<Float32Array> {
  if (view.quantisation === undefined) {
    const entry = checkpoint.tensors.get(view.tensor)!;
    return readFloat32(entry, { offset: view.offset, count: elementCount(view.shape) });
  }
  const builder = new GraphBuilder();
  // A graph needs an input; adding it to the numbers keeps the decoding from being folded away as a constant.
  const zero = builder.input("zero", [1]);
  const graph = builder.build({ values: builder.add(new BlockWeights(builder, checkpoint).float(view), zero) });
  const session = await BlockSession.create(graph, { runtime, keepFloat32Weights: false });
  try {
    const { values } = await session.run({ zero: { type: "float32", shape: [1], data: new Float32Array(1) } });
    return values!.data as Float32Array;
  } finally {
    await session.release();
  }
}

/** Rows of gate or up in a projection of both. */
function halfRows(rows: number, { order, which }: NonNullable<TensorPart["half"]>): number[] {
  const half = rows / 2;
  return Array.from({ length: half }, (_, i) => (order === "halves" ? which * half + i : 2 * i + which));
}

/** Row 2i + j of a head is its row i + j * size / 2: pairs that turn together lie beside each other. */
function pairedRows(rows: number, heads: number): number[] {
  const size = rows / heads;
  return Array.from({ length: rows }, (_, row) => {
    const [head, at] = [Math.floor(row / size), row % size];
    return head * size + Math.floor(at / 2) + ((at % 2) * size) / 2;
  });
}

function takeRows(values: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const result = new Float32Array(rows.length * width);
  rows.forEach((row, i) => result.set(values.subarray(row * width, (row + 1) * width), i * width));
  return result;
}

function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j]!;
  return result;
}

function finite(values: Float32Array, { tensor }: WeightView): Float32Array {
  if (values.every(Number.isFinite)) return values;
  throw new RerouteError(
    "checkpoint/not-finite",
    `The weights of ${quote(tensor)} contain NaN or infinity; repair or download the checkpoint again`,
  );
}
