import type { MoeDescription, WeightView } from "../../model/description";
import type { IntegerMatrix } from "../../weights/roundIntegers";
import type { Projection } from "../layer/expertMatrices";

/** One quantised projection: integer codes, or the numbers that go to the nearest code when they are written. */
export type QuantisedExpert = Record<Projection, IntegerMatrix | Float32Array>;

/** A projection of one expert as it will be written: the module's name, its size, and the bias that stays. */
export interface StoredProjection {
  module: string;
  size: [outputs: number, inputs: number];
  bias: WeightView | null;
}

/**
 * Quantised experts are stored one by one, each projection under a name of its own: those of experts that are stored so, and where they
 * are fused, the names of the family's other layout, which `ExpertStorage.split` must give.
 */
export function storedProjection(
  { experts, storage }: Pick<MoeDescription, "experts" | "storage">,
  expert: number,
  projection: Projection,
): StoredProjection {
  const { gateUp, downProj } = experts[expert]!;
  const joined = projection !== "downProj" && gateUp.kind === "joined" ? gateUp.projection : null;
  const linear = joined ?? (gateUp.kind === "separate" && projection !== "downProj" ? gateUp[projection] : downProj);
  const { weight, layout, bias } = linear;
  const [a, b] = weight.shape as [number, number];
  const [rows, inputs] = layout === "out-in" ? [a, b] : [b, a];
  const module =
    storage.kind === "fused"
      ? `${storage.split!.prefix}${expert}.${storage.split!.projections[projection]}`
      : weight.tensor.replace(/\.weight$/, "");
  return { module, size: [joined ? rows / 2 : rows, inputs], bias };
}
