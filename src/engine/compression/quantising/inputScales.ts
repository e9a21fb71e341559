import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import { readFloat32 } from "../../checkpoint/read";
import { tensorFromBytes, type TensorSource } from "../../checkpoint/tensorSource";
import type { CollectedLayer } from "../../execution/collectLayers";
import { matrix } from "../../linalg/matrix";
import type { LayerDescription, LinearDescription, MoeDescription, WeightView } from "../../model/description";
import { elementCount } from "../../tensor/dtype";
import { encodeFloats, type WritableFloat } from "../../tensor/floatCodec";
import { dequantised, roundToNearest } from "../../weights/roundIntegers";
import { projectionShape, readExpert } from "../layer/expertMatrices";
import { chunks, chunkTokens } from "../layer/layerEngine";
import { gridPoints, scalesAt, timesColumns } from "./awq";
import type { LayerHessians } from "./hessians";
import type { AppliedQuantisationOptions } from "./options";
import { gridOf } from "./quantiseExpert";
import { scaleTypeOf, type LayerForm } from "./quantisedTensors";

/** Scales are 2^-8 to 2^8: powers of two, by which BF16 and F32 are multiplied without rounding. */
const farthest = 8;

/**
 * Scales s of what gate and up of all experts of a layer read (AWQ, arXiv 2306.00978, one set a layer): mean|x_c|^r as for down, to
 * the next power of two, for the r of the grid at which rounding gate and up to nearest loses least, the sum over experts and their
 * tokens t of w_t sum_c x_tc^2 ||D_c||^2 with D = round(W s) / s - W. That is the expected loss where rounding errors of different
 * columns have nothing to do with each other. All ones where none is better.
 * @returns [hidden]
 */
export async function inputScales(
  checkpoint: Checkpoint,
  collected: CollectedLayer,
  hessians: LayerHessians,
  form: LayerForm,
  options: AppliedQuantisationOptions,
): Promise<Float64Array> {
  const { moe, layer } = collected;
  const candidates = candidatesOf(collected);
  const losses = new Float64Array(candidates.length);
  for (const [e, weights] of moe.experts.entries()) {
    if (hessians.routed(e) === 0) continue;
    const { weight, squares } = await hessians.inputSquares(e);
    const expert = await readExpert(checkpoint, weights, `expert ${e} of layer ${layer.index}`);
    for (const projection of ["gateProj", "upProj"] as const) {
      const own = matrix(...projectionShape(expert, projection), expert[projection]);
      const grid = gridOf(own.columns, { grid: form.grid(e), scaleType: scaleTypeOf(moe), options });
      for (const [i, scales] of candidates.entries()) {
        const rounded = dequantised(roundToNearest(timesColumns(own, scales).data, own.rows, own.columns, grid));
        let loss = 0;
        for (let at = 0; at < rounded.length; at++) {
          const column = at % own.columns;
          loss += squares[column]! * (rounded[at]! / scales[column]! - own.data[at]!) ** 2;
        }
        losses[i]! += weight * loss;
      }
    }
  }
  return candidates[losses.indexOf(Math.min(...losses))]!;
}

/** Different sets of scales, the first all ones. */
function candidatesOf({ inputs, numTokens }: CollectedLayer): Float64Array[] {
  const means = new Float64Array(inputs.width);
  for (const [from, to] of chunks(numTokens, chunkTokens)) {
    const rows = inputs.read(from, to);
    for (let i = 0; i < rows.length; i++) means[i % means.length]! += Math.abs(rows[i]!) / numTokens;
  }
  const found = new Map<string, Float64Array>();
  for (let point = 0; point < gridPoints; point++) {
    const scales = scalesAt(means, means.length, point / (gridPoints - 1)).map(nearestPower);
    found.set(scales.join(), found.get(scales.join()) ?? scales);
  }
  return [...found.values()];
}

function nearestPower(scale: number): number {
  return 2 ** Math.max(-farthest, Math.min(farthest, Math.round(Math.log2(scale))));
}

/**
 * The tensors of a layer that change with the scales, under their own names: its norm divided by them, and the columns of the router
 * and of shared experts, which read the same, times them. What they compute is the same to the bit.
 */
export function rescaledTensors(
  checkpoint: Checkpoint,
  layer: LayerDescription,
  moe: MoeDescription,
  scales: Float64Array,
): TensorSource[] {
  const { norm, readers } = inputPlace(layer, moe);
  return [
    ...norm.map((view) => rescaled(checkpoint, view, (i) => 1 / scales[i]!)),
    ...readers.map(({ weight, layout }) => {
      const width = weight.shape.at(-1)!;
      return rescaled(checkpoint, weight, (i) => scales[layout === "out-in" ? i % width : Math.floor(i / width)]!);
    }),
  ];
}

function rescaled(checkpoint: Checkpoint, view: WeightView, factor: (i: number) => number): TensorSource {
  const entry = checkpoint.tensors.get(view.tensor)!;
  const { name, dtype, shape } = entry;
  if (elementCount(shape) !== elementCount(view.shape)) {
    throw new RerouteError("internal", `${quote(name)} holds more than what scales are for`);
  }
  return tensorFromBytes({ name, dtype, shape }, async () =>
    encodeFloats(
      (await readFloat32(entry)).map((value, i) => value * factor(i)),
      dtype as WritableFloat,
    ),
  );
}

/**
 * The norm that gives what experts read, and what else reads it.
 * @throws RerouteError model/unsupported-option where scales have no place: the norm is missing or stores weight - 1, attention reads it too,
 * router or shared experts read something else, or a tensor's numbers cannot be multiplied without rounding
 */
export function inputPlace(
  { index, postAttentionNorm: norm, parallel }: LayerDescription,
  { router, shared }: MoeDescription,
): { norm: WeightView[]; readers: LinearDescription[] } {
  const refuse = (what: string): never => {
    throw new RerouteError(
      "model/unsupported-option",
      `Layer ${index}: scales for what gate and up read (gateUp) have no place in this family: ${what}. Leave gateUp out; ` +
        "the scales of down have theirs in the same expert",
    );
  };
  if (norm?.weight == null || parallel) return refuse("no norm of its own gives what the experts read");
  if (norm.plusOne) return refuse("its norm stores weight - 1, which cannot be divided without rounding");
  if (router.input !== undefined || shared?.inputNorm !== undefined)
    return refuse("its router or shared experts read something else than the experts");
  const readers: LinearDescription[] = [{ weight: router.weight, bias: null, layout: "out-in" }];
  if (shared) {
    const { gateUp } = shared.mlp.weights;
    readers.push(...(gateUp.kind === "separate" ? [gateUp.gateProj, gateUp.upProj] : [gateUp.projection]));
    if (shared.gate) readers.push(shared.gate);
  }
  const place = { norm: norm.bias === null ? [norm.weight] : [norm.weight, norm.bias], readers };
  const views = [...place.norm, ...readers.map(({ weight }) => weight)];
  // F16 has too few exponents for that, and codes have scales of their own.
  const inexact = views.find(({ dtype, quantisation }) => quantisation != null || !["BF16", "F32"].includes(dtype));
  if (inexact)
    return refuse(
      `${quote(inexact.tensor)} is ${inexact.dtype}, and BF16 and F32 alone are multiplied without rounding`,
    );
  return place;
}
