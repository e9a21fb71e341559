import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import { readFloat32 } from "../../checkpoint/read";
import type { ExpertWeights, GateUpWeights, LinearDescription, WeightView } from "../../model/description";
import { elementCount } from "../../tensor/dtype";
import { formName } from "../../weights/forms";

/** One expert's weights as float32, whatever their layout on disk. I intermediate units, H hidden size. */
export interface ExpertMatrices {
  intermediateSize: number;
  hiddenSize: number;
  /** [I, H] */
  gateProj: Float32Array;
  /** [I, H] */
  upProj: Float32Array;
  /** [H, I] */
  downProj: Float32Array;
  /** [I], [I], [H]; null where the family has none. */
  gateBias: Float32Array | null;
  upBias: Float32Array | null;
  downBias: Float32Array | null;
}

/** Names of the three projections, as plans and metrics use them. */
export const projections = ["gateProj", "upProj", "downProj"] as const;
export type Projection = (typeof projections)[number];

/** Rows and columns of a projection, as a matrix [out, in]. */
export function projectionShape(
  { intermediateSize, hiddenSize }: Pick<ExpertMatrices, "intermediateSize" | "hiddenSize">,
  projection: Projection,
): [rows: number, columns: number] {
  return projection === "downProj" ? [hiddenSize, intermediateSize] : [intermediateSize, hiddenSize];
}

/**
 * Reads one expert.
 * @throws RerouteError model/unsupported-option for quantised experts, checkpoint/not-finite for NaN or infinity
 */
export async function readExpert(
  checkpoint: Checkpoint,
  { gateUp, downProj }: ExpertWeights,
  name: string,
): Promise<ExpertMatrices> {
  const read = (view: WeightView | null) => (view === null ? null : readView(checkpoint, view, name));
  const down = transposedIf((await read(downProj.weight))!, downProj);
  const hiddenSize = outputsOf(downProj);
  const intermediateSize = inputsOf(downProj);
  const common = { intermediateSize, hiddenSize, downProj: down, downBias: await read(downProj.bias) };
  if (gateUp.kind === "separate") {
    const { gateProj, upProj } = gateUp;
    return {
      ...common,
      gateProj: transposedIf((await read(gateProj.weight))!, gateProj),
      upProj: transposedIf((await read(upProj.weight))!, upProj),
      gateBias: await read(gateProj.bias),
      upBias: await read(upProj.bias),
    };
  }
  const both = transposedIf((await read(gateUp.projection.weight))!, gateUp.projection);
  const bias = await read(gateUp.projection.bias);
  return {
    ...common,
    gateProj: rowsOf(gateUp.order, both, hiddenSize, 0),
    upProj: rowsOf(gateUp.order, both, hiddenSize, 1),
    gateBias: bias && rowsOf(gateUp.order, bias, 1, 0),
    upBias: bias && rowsOf(gateUp.order, bias, 1, 1),
  };
}

/** One projection [out, in] alone, so that a method can hold one tensor at a time. Throws as readExpert. */
export async function readProjection(
  checkpoint: Checkpoint,
  { gateUp, downProj }: ExpertWeights,
  projection: Projection,
  name: string,
): Promise<Float32Array> {
  if (projection === "downProj") return transposedIf(await readView(checkpoint, downProj.weight, name), downProj);
  if (gateUp.kind === "separate") {
    const linear = gateUp[projection];
    return transposedIf(await readView(checkpoint, linear.weight, name), linear);
  }
  const both = transposedIf(await readView(checkpoint, gateUp.projection.weight, name), gateUp.projection);
  return rowsOf(gateUp.order, both, inputsOf(gateUp.projection), projection === "gateProj" ? 0 : 1);
}

/** The stored views of an expert, biases included, each with the numbers that go there. */
export function storedValues(
  { gateUp, downProj }: ExpertWeights,
  matrices: ExpertMatrices,
): { view: WeightView; values: () => Float32Array }[] {
  const linears: [LinearDescription, () => Float32Array, () => Float32Array | null][] = [
    [downProj, () => matrices.downProj, () => matrices.downBias],
  ];
  if (gateUp.kind === "separate") {
    linears.unshift(
      [gateUp.gateProj, () => matrices.gateProj, () => matrices.gateBias],
      [gateUp.upProj, () => matrices.upProj, () => matrices.upBias],
    );
  } else {
    const { gateProj, upProj, gateBias, upBias, hiddenSize } = matrices;
    linears.unshift([
      gateUp.projection,
      () => joined(gateUp.order, gateProj, upProj, hiddenSize),
      () => gateBias && upBias && joined(gateUp.order, gateBias, upBias, 1),
    ]);
  }
  return linears.flatMap(([linear, weight, bias]) => [
    { view: linear.weight, values: () => transposedIf(weight(), linear, true) },
    ...(linear.bias === null ? [] : [{ view: linear.bias, values: () => bias()! }]),
  ]);
}

/** Every stored view of an expert, biases included. */
export function expertViews({ gateUp, downProj }: ExpertWeights): WeightView[] {
  const linears =
    gateUp.kind === "separate" ? [gateUp.gateProj, gateUp.upProj, downProj] : [gateUp.projection, downProj];
  return linears.flatMap(({ weight, bias }) => (bias === null ? [weight] : [weight, bias]));
}

/**
 * Refuses experts whose numbers are codes with scales: they would have to be quantised again.
 * @throws RerouteError model/unsupported-option
 */
export function requirePlain(view: WeightView, method: string): void {
  if (!view.quantisation) return;
  throw new RerouteError(
    "model/unsupported-option",
    `The method ${method} makes new weights, but ${quote(view.tensor)} is stored as ${formName(view)}; convert the ` +
      `checkpoint to BF16 first, or use a pruning method, which keeps stored bytes`,
  );
}

async function readView(checkpoint: Checkpoint, view: WeightView, name: string): Promise<Float32Array> {
  requirePlain(view, "asked for");
  const values = await readFloat32(checkpoint.tensors.get(view.tensor)!, {
    offset: view.offset,
    count: elementCount(view.shape),
  });
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i]!)) continue;
    throw new RerouteError(
      "checkpoint/not-finite",
      `The weights of ${name} contain NaN or infinity in ${quote(view.tensor)}; repair or download the checkpoint again`,
    );
  }
  return values;
}

function outputsOf({ weight, layout }: LinearDescription): number {
  return weight.shape[layout === "out-in" ? 0 : 1]!;
}

function inputsOf({ weight, layout }: LinearDescription): number {
  return weight.shape[layout === "out-in" ? 1 : 0]!;
}

/** Between [out, in] and what is stored; `back` for the way to the disk. */
function transposedIf(values: Float32Array, linear: LinearDescription, back = false): Float32Array {
  if (linear.layout === "out-in") return values;
  const [rows, columns] = back ? [outputsOf(linear), inputsOf(linear)] : [inputsOf(linear), outputsOf(linear)];
  const result = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j]!;
  return result;
}

type GateUpOrder = Extract<GateUpWeights, { kind: "joined" }>["order"];

/** The rows of gate (0) or up (1) out of a matrix of both. */
function rowsOf(order: GateUpOrder, both: Float32Array, width: number, which: 0 | 1): Float32Array {
  const half = both.length / 2;
  if (order === "halves") return both.slice(which * half, (which + 1) * half);
  const rows = half / width;
  const result = new Float32Array(half);
  for (let i = 0; i < rows; i++) {
    const from = (2 * i + which) * width;
    result.set(both.subarray(from, from + width), i * width);
  }
  return result;
}

/** Gate and up as one matrix again. */
function joined(order: GateUpOrder, gate: Float32Array, up: Float32Array, width: number): Float32Array {
  const result = new Float32Array(gate.length * 2);
  if (order === "halves") {
    result.set(gate);
    result.set(up, gate.length);
    return result;
  }
  for (let i = 0; i < gate.length / width; i++) {
    result.set(gate.subarray(i * width, (i + 1) * width), 2 * i * width);
    result.set(up.subarray(i * width, (i + 1) * width), (2 * i + 1) * width);
  }
  return result;
}
