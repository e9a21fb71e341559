import type { QuantisationPlan } from "../../../protocol/plan";
import { matrix, type Matrix } from "../../linalg/matrix";
import type { MatrixProducts } from "../../linalg/products";
import type { WritableFloat } from "../../tensor/floatCodec";
import { dequantised, roundToNearest, type IntegerGrid, type IntegerMatrix } from "../../weights/roundIntegers";
import { projections, projectionShape, type ExpertMatrices, type Projection } from "../layer/expertMatrices";
import { channelScales, timesColumns } from "./awq";
import { gptq, outputLoss } from "./gptq";
import type { ExpertHessians } from "./hessians";
import type { AppliedQuantisationOptions } from "./options";
import { outputFormats, type StoredGrid } from "./outputFormats";
import type { LayerForm } from "./quantisedTensors";
import type { QuantisedExpert } from "./storedProjection";

/** What a method did to one expert, for the report. */
export interface ExpertReport {
  /** tr(D H D^T) of the matrices that the method decides on, as chosen and by rounding to nearest. */
  loss: number;
  nearestLoss: number;
  /** Matrices of which the nearest codes were better than GPTQ's. */
  keptNearest: number;
}

export interface ExpertRequest {
  method: QuantisationPlan["method"];
  format: LayerForm["format"];
  grid: StoredGrid;
  scaleType: WritableFloat;
  options: AppliedQuantisationOptions;
  products: MatrixProducts;
  /** What it sees of the text; null without text, or where no token is routed to it: nearest codes then. */
  hessians: ExpertHessians | null;
  /** [hidden]: what gate and up read is divided by these, so that their columns take them; null: they read it as it is. */
  inputScales?: Float64Array | null;
}

type GridRequest = Pick<ExpertRequest, "grid" | "scaleType" | "options">;

/** Quantises one expert by a method. */
export async function quantiseExpert(
  expert: ExpertMatrices,
  request: ExpertRequest,
): Promise<{ quantised: QuantisedExpert; report: ExpertReport | null }> {
  const { format, hessians, method } = request;
  if (!outputFormats[format].integers)
    return { quantised: { gateProj: expert.gateProj, upProj: expert.upProj, downProj: expert.downProj }, report: null };
  if (hessians === null || (method !== "gptq" && method !== "awq")) {
    const scaled = withInputScales(expert, request);
    const quantised = {} as QuantisedExpert;
    for (const projection of projections) quantised[projection] = nearest(scaled, projection, request);
    return { quantised, report: null };
  }
  return method === "awq" ? byAwq(expert, request, hessians) : byGptq(expert, request, hessians);
}

async function byGptq(expert: ExpertMatrices, request: ExpertRequest, hessians: ExpertHessians) {
  const { products, options } = request;
  const quantised = {} as QuantisedExpert;
  const report: ExpertReport = { loss: 0, nearestLoss: 0, keptNearest: 0 };
  for (const projection of projections) {
    const weights = matrixOf(expert, projection);
    const hessian = projection === "downProj" ? hessians.intermediates : hessians.inputs;
    const grid = gridOf(weights.columns, request, hessian);
    const { damp, block } = options;
    const swept = await gptq(products, weights, hessian, { grid, damp, block });
    const rounded = roundToNearest(weights.data, weights.rows, weights.columns, grid);
    const loss = await outputLoss(products, weights, dequantised(swept), hessian);
    const nearestLoss = await outputLoss(products, weights, dequantised(rounded), hessian);
    const keeps = options.choose === "best" && nearestLoss < loss;
    quantised[projection] = keeps ? rounded : swept;
    report.loss += keeps ? nearestLoss : loss;
    report.nearestLoss += nearestLoss;
    if (keeps) report.keptNearest++;
  }
  return { quantised, report };
}

/**
 * The scales of the down projection's channels go into the rows of the same expert's up projection, which is exact:
 * down (s h / s) with h = act(gate x) * up x. They need no other tensor. Those of gate's and up's channels are the layer's.
 */
async function byAwq(expert: ExpertMatrices, request: ExpertRequest, hessians: ExpertHessians) {
  const { products, inputScales } = request;
  const down = matrixOf(expert, "downProj");
  const hessian = hessians.intermediates;
  const grid = gridOf(down.columns, request);
  const scales = await channelScales(products, down, hessian, hessians.meanIntermediates, grid);
  const scaled = timesColumns(down, scales);
  const rowScale = (i: number) => scales[Math.floor(i / expert.hiddenSize)]!;
  const inputScaled = withInputScales(expert, request);
  const upProj = inputScaled.upProj.map((value, i) => value / rowScale(i));
  const quantised: QuantisedExpert = {
    gateProj: nearest(inputScaled, "gateProj", request),
    upProj: nearest({ ...expert, upProj }, "upProj", request),
    downProj: roundToNearest(scaled.data, scaled.rows, scaled.columns, grid),
  };
  const back = dequantised(quantised.downProj as IntegerMatrix).map((value, i) => value / scales[i % down.columns]!);
  const rounded = dequantised(roundToNearest(down.data, down.rows, down.columns, grid));
  const report: ExpertReport = {
    loss: await outputLoss(products, down, back, hessian),
    nearestLoss: await outputLoss(products, down, rounded, hessian),
    keptNearest: 0,
  };
  for (const projection of inputScales ? (["gateProj", "upProj"] as const) : []) {
    const weights = matrixOf(expert, projection);
    const own = dequantised(quantised[projection] as IntegerMatrix).map(
      (value, i) => (value * (projection === "upProj" ? rowScale(i) : 1)) / inputScales![i % weights.columns]!,
    );
    report.loss += await outputLoss(products, weights, own, hessians.inputs);
    const plain = dequantised(nearest(expert, projection, request));
    report.nearestLoss += await outputLoss(products, weights, plain, hessians.inputs);
  }
  return { quantised, report };
}

function withInputScales(expert: ExpertMatrices, { inputScales }: ExpertRequest): ExpertMatrices {
  if (!inputScales) return expert;
  const scaled = (values: Float32Array) => values.map((value, i) => value * inputScales[i % expert.hiddenSize]!);
  return { ...expert, gateProj: scaled(expert.gateProj), upProj: scaled(expert.upProj) };
}

function nearest(expert: ExpertMatrices, projection: Projection, request: ExpertRequest): IntegerMatrix {
  const [rows, columns] = projectionShape(expert, projection);
  return roundToNearest(expert[projection], rows, columns, gridOf(columns, request));
}

/** @param hessian of what the matrix reads, where it is known */
export function gridOf(
  columns: number,
  { grid: { bits, group, symmetric = true }, scaleType, options: { scale } }: GridRequest,
  hessian: Matrix | null = null,
): IntegerGrid {
  const grid = { bits, group: group || columns, scaleType, asymmetric: !symmetric };
  if (scale === "max") return grid;
  const byHessian = scale === "hessian" && hessian !== null;
  const counts = Float64Array.from({ length: columns }, (_, j) => (byHessian ? hessian.data[j * columns + j]! : 1));
  return { ...grid, searched: counts };
}

function matrixOf(expert: ExpertMatrices, projection: Projection): Matrix {
  return matrix(...projectionShape(expert, projection), expert[projection]);
}
