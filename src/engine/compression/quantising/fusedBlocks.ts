import type { TensorLayout } from "../../checkpoint/headerFormat";
import { tensorFromBytes, type ByteSource, type TensorSource } from "../../checkpoint/tensorSource";
import type { ExpertWeights, LinearDescription, MoeDescription, WeightView } from "../../model/description";
import { mxfp4Group } from "../../weights/float4";
import { roundToMxfp4 } from "../../weights/roundFloats";
import type { QuantisedExpert } from "./storedProjection";

const groupBytes = mxfp4Group / 2;

/** One of gpt-oss's fused projections: all experts' rows [outputs, inputs], gate and up by turns in the first. */
interface FusedProjection {
  name: string;
  outputs: number;
  inputs: number;
  isDown: boolean;
}

/**
 * gpt-oss's layout of MXFP4: `<name>_blocks` [experts, outputs, inputs / 32, 16] and `<name>_scales` [experts, outputs, inputs / 32], U8.
 * Its names in the model as it is stored now; null where the family has no such layout.
 */
export function fusedProjections({ storage, experts, intermediateSize }: MoeDescription): FusedProjection[] | null {
  if (storage.kind !== "fused" || storage.blocks === undefined) return null;
  const { gateUp, down } = storage.blocks;
  const { weight, layout } = experts[0]!.downProj;
  const hiddenSize = weight.shape[layout === "out-in" ? 0 : 1]!;
  return [
    { name: gateUp, outputs: 2 * intermediateSize, inputs: hiddenSize, isDown: false },
    { name: down, outputs: hiddenSize, inputs: intermediateSize, isDown: true },
  ];
}

export function blockLayouts(moe: MoeDescription, projections: readonly FusedProjection[]): TensorLayout[] {
  return projections.flatMap(({ name, outputs, inputs }): TensorLayout[] => {
    const groups = [moe.numExperts, outputs, inputs / mxfp4Group];
    return [
      { name: `${name}_blocks`, dtype: "U8", shape: [...groups, groupBytes] },
      { name: `${name}_scales`, dtype: "U8", shape: groups },
    ];
  });
}

/** The tensors as they will be stored; each expert is made for each of them, so that one is in memory at a time. */
export function blockTensors(
  moe: MoeDescription,
  projections: readonly FusedProjection[],
  make: (expert: number) => Promise<QuantisedExpert>,
): TensorSource[] {
  const layouts = blockLayouts(moe, projections);
  return projections.flatMap(({ isDown, inputs }, p) =>
    (["codes", "exponents"] as const).map((part, which): TensorSource => {
      const layout = layouts[2 * p + which]!;
      const one = { ...layout, shape: layout.shape.slice(1) };
      const parts = moe.experts.flatMap((_, e): ByteSource[] => {
        const bytes = async () => {
          const { gateProj, upProj, downProj } = (await make(e)) as Record<keyof QuantisedExpert, Float32Array>;
          return roundToMxfp4(isDown ? downProj : byTurns(gateProj, upProj, inputs))[part];
        };
        return tensorFromBytes(one, bytes).parts;
      });
      return { ...layout, parts };
    }),
  );
}

/** Row 0 of the first, row 0 of the second, row 1 of the first, ... */
function byTurns(a: Float32Array, b: Float32Array, width: number): Float32Array {
  const result = new Float32Array(a.length + b.length);
  for (let row = 0; row < a.length / width; row++) {
    result.set(a.subarray(row * width, (row + 1) * width), 2 * row * width);
    result.set(b.subarray(row * width, (row + 1) * width), (2 * row + 1) * width);
  }
  return result;
}

/** Experts that are read from these tensors; biases stay where they are. */
export function blockExperts(moe: MoeDescription, [gateUp, down]: readonly FusedProjection[]): ExpertWeights[] {
  const linear = (
    { name, outputs, inputs }: FusedProjection,
    bias: WeightView | null,
    e: number,
  ): LinearDescription => {
    const groups = (outputs * inputs) / mxfp4Group;
    const shape = [outputs, inputs / mxfp4Group];
    const scales: WeightView = { tensor: `${name}_scales`, offset: e * groups, shape, dtype: "U8" };
    const codes = { tensor: `${name}_blocks`, offset: e * groups * groupBytes, shape: [outputs, inputs] };
    const weight: WeightView = { ...codes, dtype: "U8", quantisation: { kind: "mxfp4", scales } };
    return { bias, layout: "out-in", weight };
  };
  return moe.experts.map((expert, e): ExpertWeights => {
    const { bias } = expert.gateUp.kind === "joined" ? expert.gateUp.projection : expert.gateUp.gateProj;
    return {
      gateUp: { kind: "joined", order: "interleaved", projection: linear(gateUp!, bias, e) },
      downProj: linear(down!, expert.downProj.bias, e),
    };
  });
}
