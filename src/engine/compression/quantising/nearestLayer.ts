import type { QuantisationPlan } from "../../../protocol/plan";
import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import type { MoeDescription } from "../../model/description";
import type { Bits } from "../../weights/view";
import type { MethodContext } from "../methodContext";
import { applyQuantisation } from "./applyQuantisation";
import { formOf, quantisedLayer } from "./quantisedTensors";

/** A layer whose experts are at the nearest codes, and where these are staged. */
export interface NearestLayer {
  checkpoint: Checkpoint;
  moe: MoeDescription;
  staged: ReadonlyMap<string, TensorEntry>;
}

/** One layer at one width, staged in a folder as it would be stored, or found there. */
export async function nearestLayer(
  context: MethodContext,
  uniform: QuantisationPlan,
  layer: number,
  moe: MoeDescription,
  bits: Bits,
  stateDirectory: string,
): Promise<NearestLayer> {
  const { elsewhere: _, ...here } = context;
  const layersAt = Object.entries(uniform.layers).map(([other, own]) => [other, { ...own, bits }] as const);
  const plan: QuantisationPlan = { ...uniform, method: "rtn", layers: Object.fromEntries(layersAt) };
  const stages = await applyQuantisation({ ...here, stateDirectory, only: { layer, collected: null } }, plan);
  const { staged } = stages.get(layer)!;
  return { ...quantisedLayer(context.checkpoint, formOf(plan, layer), moe, staged), staged };
}
