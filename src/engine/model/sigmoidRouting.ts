import { readBoolean, readNumber, refuseUnless, type Config } from "./config";
import type { RoutingDescription } from "./description";
import type { ExpertCount } from "./expertCount";
import { readGroupLimit } from "./groupLimit";

/**
 * DeepSeek-V3's routing (arXiv 2412.19437), which GLM-4.5 shares: sigmoid scores; selection by score plus correction bias
 * within the best groups; weights are the unbiased scores, divided by their sum + 1e-20 and scaled.
 */
export function readSigmoidRouting(
  config: Config,
  count: ExpertCount,
  defaults: { scalingFactor: number; numGroups: number; topGroups: number },
): RoutingDescription {
  refuseUnless(config, "scoring_func", ["sigmoid"], "this family scores experts by a sigmoid");
  refuseUnless(config, "topk_method", ["noaux_tc"], "this family selects experts with a correction bias (noaux_tc)");
  return {
    kind: "sigmoid",
    renormalise: readBoolean(config, "norm_topk_prob", true),
    epsilon: 1e-20,
    scalingFactor: readNumber(config, "routed_scaling_factor", { default: defaults.scalingFactor }),
    groups: readGroupLimit(config, count, "sum-of-two", defaults),
    useCorrectionBias: true,
  };
}
