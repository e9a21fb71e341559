import { expertViews } from "../layer/expertMatrices";
import type { ModelDescription } from "../../model/description";
import { elementCount } from "../../tensor/dtype";
import type { MethodCost } from "./methodCost";

/** Plain-code operations to decode one stored number and put it beside those of the other experts. */
const decode = 3;

/** What comparing the weights of every layer's experts takes (layer/weightCosine); nothing where they are codes or factors. */
export function weightCosineCost({ layers }: ModelDescription): MethodCost {
  const cost: MethodCost = { float32: 0, float64: 0, plain: 0, subspace: 0, passTokens: 0, workingBytes: 0 };
  for (const { feedForward } of layers) {
    if (feedForward.kind !== "moe") continue;
    const { experts, logicalToPhysical } = feedForward;
    const views = expertViews(experts[0]!);
    if (experts[0]!.constant || views.some(({ quantisation }) => quantisation !== undefined)) continue;
    const E = logicalToPhysical?.length ?? experts.length;
    const numbers = E * views.reduce((sum, { shape }) => sum + elementCount(shape), 0);
    cost.float32 += 2 * E * numbers;
    cost.plain += decode * numbers;
  }
  return cost;
}
