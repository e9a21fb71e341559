import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import type { ByteSource, TensorSource } from "../../checkpoint/tensorSource";
import { weightKey } from "../../graph/blocks/weights";
import type { ExpertWeights, LinearDescription, MoeDescription, WeightView } from "../../model/description";
import { byteLengthOf, elementCount } from "../../tensor/dtype";
import { encodeFloats, type WritableFloat } from "../../tensor/floatCodec";
import { expertViews, storedValues, type ExpertMatrices } from "../layer/expertMatrices";

/** The same expert with `width` intermediate units: views keep tensor and offset, shapes change. */
export function narrowed(expert: ExpertWeights, width: number): ExpertWeights {
  const { gateUp, downProj } = expert;
  const resized = (view: WeightView, axis: number, size: number): WeightView => ({
    ...view,
    shape: view.shape.map((old, i) => (i === axis ? size : old)),
  });
  const outputs = ({ weight, bias, layout }: LinearDescription, size: number): LinearDescription => ({
    weight: resized(weight, layout === "out-in" ? 0 : 1, size),
    bias: bias && resized(bias, 0, size),
    layout,
  });
  return {
    ...expert,
    gateUp:
      gateUp.kind === "separate"
        ? { ...gateUp, gateProj: outputs(gateUp.gateProj, width), upProj: outputs(gateUp.upProj, width) }
        : { ...gateUp, projection: outputs(gateUp.projection, 2 * width) },
    downProj: { ...downProj, weight: resized(downProj.weight, downProj.layout === "out-in" ? 1 : 0, width) },
  };
}

/** One stored tensor of a layer's experts as it comes out. */
interface NarrowTensor {
  name: string;
  dtype: WritableFloat;
  shape: number[];
  /** What it holds, in order, with the views as they were found. */
  parts: { expert: number; before: WeightView; after: WeightView }[];
}

/**
 * The tensors of a layer's experts with other widths, in the layout that they have: one an expert, or all of them in one.
 * @param widths of each expert; all the same where experts share a tensor
 */
export function narrowTensors(checkpoint: Checkpoint, moe: MoeDescription, widths: readonly number[]): NarrowTensor[] {
  const byTensor = new Map<string, NarrowTensor["parts"]>();
  moe.experts.forEach((expert, e) => {
    if (expert.constant) return;
    const after = expertViews(narrowed(expert, widths[e]!));
    expertViews(expert).forEach((before, i) => {
      const parts = byTensor.get(before.tensor) ?? [];
      parts.push({ expert: e, before, after: after[i]! });
      byTensor.set(before.tensor, parts);
    });
  });
  return [...byTensor].map(([name, parts]) => {
    parts.sort((a, b) => a.before.offset - b.before.offset);
    const entry = checkpoint.tensors.get(name)!;
    const covered = parts.reduce((sum, { before }) => sum + elementCount(before.shape), 0);
    if (covered !== elementCount(entry.shape)) {
      throw new RerouteError("internal", `${quote(name)}: the views of its experts do not cover it`);
    }
    return { name, dtype: entry.dtype as WritableFloat, shape: shapeOf(entry.shape, parts), parts };
  });
}

/** Of a tensor of all experts, the axis that changes in a view is one later; gate and up may be two views of one slice. */
function shapeOf(shape: readonly number[], parts: NarrowTensor["parts"]): number[] {
  const { before, after } = parts[0]!;
  const shift = shape.length - before.shape.length;
  return shape.map((size, i) => {
    const [old, changed] = [before.shape[i - shift], after.shape[i - shift]];
    return i < shift || old === undefined || changed === old ? size : (size / old) * changed!;
  });
}

/** The experts as the new tensors hold them. */
export function relocated(
  moe: MoeDescription,
  tensors: readonly NarrowTensor[],
  widths: readonly number[],
): MoeDescription {
  const offsets = new Map<string, number>();
  for (const { parts } of tensors) {
    let offset = 0;
    for (const { before, after } of parts) {
      offsets.set(weightKey(before), offset);
      offset += elementCount(after.shape);
    }
  }
  const moved = (view: WeightView): WeightView => ({ ...view, offset: offsets.get(weightKey(view)) ?? view.offset });
  const linear = ({ weight, bias, layout }: LinearDescription): LinearDescription => ({
    weight: moved(weight),
    bias: bias && moved(bias),
    layout,
  });
  const experts = moe.experts.map((expert, e) => {
    if (expert.constant) return expert;
    const { gateUp, downProj } = narrowed(expert, widths[e]!);
    return {
      gateUp:
        gateUp.kind === "separate"
          ? { ...gateUp, gateProj: linear(gateUp.gateProj), upProj: linear(gateUp.upProj) }
          : { ...gateUp, projection: linear(gateUp.projection) },
      downProj: linear(downProj),
    };
  });
  return { ...moe, experts, intermediateSize: Math.max(...widths) };
}

/** Makes what a stored view of an expert holds. Gate and up never ask for the down projection. */
export type ExpertParts = (expert: number, part: "gate and up" | "down") => Promise<ExpertMatrices>;

/** The new tensors, made when their turn comes: one expert in memory at a time. */
export function narrowSources(
  moe: MoeDescription,
  tensors: readonly NarrowTensor[],
  widths: readonly number[],
  make: ExpertParts,
): TensorSource[] {
  let last: { key: string; made: Promise<ExpertMatrices> } | null = null;
  const matricesOf = (expert: number, part: "gate and up" | "down") => {
    const key = `${expert} ${part}`;
    if (last?.key !== key) last = { key, made: make(expert, part) };
    return last.made;
  };
  return tensors.map(({ name, dtype, shape, parts }) => ({
    ...{ name, dtype, shape },
    parts: parts.map(({ expert, before, after }): ByteSource => ({
      kind: "bytes",
      byteLength: byteLengthOf(dtype, after.shape),
      data: async () => {
        const weights = moe.experts[expert]!;
        const isDown = [weights.downProj.weight, weights.downProj.bias].some(
          (view) => view !== null && weightKey(view) === weightKey(before),
        );
        const matrices = await matricesOf(expert, isDown ? "down" : "gate and up");
        const stored = storedValues(narrowed(weights, widths[expert]!), matrices);
        return encodeFloats(stored.find(({ view }) => weightKey(view) === weightKey(before))!.values(), dtype);
      },
    })),
  }));
}
