import { readBoolean, readNumber, refuseUnless, type Config } from "./config";
import type { RoutingDescription } from "./description";
import type { ExpertCount } from "./expertCount";
import { readGroupLimit } from "./groupLimit";
import { settle, type Setting } from "./settings";

/** A family's routing rule, read from config.json. */
export type RoutingRule = (config: Config, count: ExpertCount) => RoutingDescription;

const softmax: SoftmaxRouting = {
  kind: "softmax",
  softmax: "before",
  renormalise: false,
  epsilon: 0,
  epsilonMode: "add",
  scalingFactor: 1,
  groups: null,
  useCorrectionBias: false,
};

type SoftmaxRouting = Extract<RoutingDescription, { kind: "softmax" }>;

/** Softmax over all experts, top-k, then optionally divided by the sum of the selected. */
export const softmaxRouting = (renormalise: boolean): SoftmaxRouting => ({ ...softmax, renormalise });

/** softmaxRouting as a family's rule. */
export function softmaxThenTopK(
  renormalise: Setting<boolean>,
  changes: Setting<Partial<SoftmaxRouting>> = {},
): RoutingRule {
  return (config) => ({
    ...softmaxRouting(settle(renormalise, config, false)),
    ...settle<Partial<SoftmaxRouting>>(changes, config, {}),
  });
}

/** Top-k of the logits, then softmax over the selected ones. */
export const topKThenSoftmax: RoutingRule = () => ({ ...softmax, softmax: "after" });

const sigmoid: Extract<RoutingDescription, { kind: "sigmoid" }> = {
  kind: "sigmoid",
  renormalise: true,
  epsilon: 1e-20,
  scalingFactor: 1,
  groups: null,
  useCorrectionBias: true,
};

/** Sigmoid scores; selection by score plus correction bias; weights are the scores, divided by their sum and scaled. */
export function sigmoidRouting(changes: Setting<Partial<typeof sigmoid>> = {}): RoutingRule {
  return (config) => ({ ...sigmoid, ...settle<Partial<typeof sigmoid>>(changes, config, {}) });
}

/**
 * DeepSeek-V3's routing (arXiv 2412.19437) and that of its many relatives: as sigmoidRouting, within the best groups.
 * @param absent where config.json is silent
 */
export function groupedSigmoidRouting(
  absent: { scalingFactor: number; numGroups?: number; topGroups?: number; renormalise?: boolean },
  scoringNames: readonly string[] = ["sigmoid"],
): RoutingRule {
  const { scalingFactor, numGroups = 1, topGroups = 1, renormalise = true } = absent;
  return (config, count) => {
    refuseUnless(config, "scoring_func", scoringNames, "this family scores experts by a sigmoid");
    refuseUnless(config, "topk_method", ["noaux_tc"], "this family selects experts with a correction bias (noaux_tc)");
    return {
      ...sigmoid,
      renormalise: readBoolean(config, "norm_topk_prob", renormalise),
      scalingFactor: readNumber(config, "routed_scaling_factor", { default: scalingFactor }),
      groups: readGroupLimit(config, count, "sum-of-two", { numGroups, topGroups }),
    };
  };
}

/** As groupedSigmoidRouting with a softmax's scores and no correction bias (Mistral 4). */
export function groupedSoftmaxRouting(absent: { scalingFactor: number }): RoutingRule {
  return (config, count) => ({
    ...softmax,
    renormalise: readBoolean(config, "norm_topk_prob", true),
    epsilon: 1e-20,
    scalingFactor: readNumber(config, "routed_scaling_factor", { default: absent.scalingFactor }),
    groups: readGroupLimit(config, count, "sum-of-two", { numGroups: 1, topGroups: 1 }),
  });
}
