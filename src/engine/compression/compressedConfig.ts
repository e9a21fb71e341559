import type { CompressionPlan, PruningPlan } from "../../protocol/plan";
import type { Checkpoint } from "../checkpoint/checkpoint";
import type { ModelDescription } from "../model/description";
import { configWithoutGroupLimits } from "./plan/groupLimits";
import { constantExperts, replacesByConstants } from "./pruning/constants";
import { withRenumberedPatterns } from "./pruning/renumberPatterns";
import { expertCountsKey } from "../model/expertCount";
import { expertWidthsKey } from "../model/expertWidths";
import { factoredConfigKey } from "../model/factored";
import { withKeptZeros } from "../model/keptZeros";
import { quantisedConfig } from "./quantising/quantisedConfig";
import { narrowedConfig } from "./neurons/narrowedConfig";
import type { JsonObject, ModelFamily } from "../model/family";

/**
 * config.json of the compressed checkpoint. Pruned and folded: another number of experts, in every spelling. Mapped: the
 * number stays, and `expert_id_mapping` (a list for each layer, null where it is dense), `logical_num_experts` and
 * `physical_num_experts` (a number, or one for each layer where they differ) say which experts exist.
 */
export function compressedConfig(
  { config, tensors }: Pick<Checkpoint, "config" | "tensors">,
  family: ModelFamily,
  description: ModelDescription,
  plan: CompressionPlan,
): JsonObject {
  switch (plan.paradigm) {
    case "pruning": {
      if (replacesByConstants(plan)) return { ...config, reroute_constant_experts: constantExperts(description, plan) };
      const own = withRenumberedPatterns(withKeptWidths(config, description, plan), description, plan);
      const counts = description.layers.map(({ index, feedForward }) =>
        feedForward.kind === "moe" ? plan.layers[String(index)]!.kept.length : null,
      );
      const most = Math.max(...counts.map((count) => count ?? 0));
      const { [expertCountsKey]: _, ...others } = family.withNumExperts(own, most);
      const differ = counts.some((count) => count !== null && count !== most);
      const smaller = differ ? { ...others, [expertCountsKey]: counts } : others;
      return plan.groupLimits === "drop" ? configWithoutGroupLimits(smaller) : smaller;
    }
    case "editing":
      if (plan.output === "dense") return config;
      return {
        ...config,
        [factoredConfigKey]: {
          version: 1,
          method: plan.method,
          activation: plan.options?.["activation"] ?? "silu",
        },
      };
    case "sparsity":
      return Object.values(plan.layers).some(({ keep }) => keep.some((share) => share < 1))
        ? withKeptZeros(config, "experts")
        : config;
    case "router":
      return Object.values(plan.layers).some(({ keep }) => keep < 1) ? withKeptZeros(config, "routers") : config;
    case "quantisation":
      return quantisedConfig({ config, tensors }, description, plan);
    case "neurons":
      return narrowedConfig(config, family, description, plan);
    case "merging":
      break;
  }
  const counts = Object.values(plan.layers).map(({ groups }) => groups.length);
  if (plan.router === "duplicate") return config;
  if (plan.router === "fold") return family.withNumExperts(config, counts[0]!);
  const mapping = description.layers.map(({ index, feedForward }) => {
    if (feedForward.kind !== "moe") return null;
    const { groups } = plan.layers[String(index)]!;
    return Array.from({ length: feedForward.numExperts }, (_, e) => groups.findIndex((g) => g.members.includes(e)));
  });
  const logical = Math.max(...mapping.map((layer) => layer?.length ?? 0));
  const uniform = counts.every((count) => count === counts[0]);
  return {
    ...config,
    expert_id_mapping: mapping,
    logical_num_experts: logical,
    physical_num_experts: uniform
      ? counts[0]!
      : description.layers.map(({ index }) => plan.layers[String(index)]?.groups.length ?? null),
  };
}

/** Experts whose neurons were pruned one by one keep the widths that they have. */
function withKeptWidths(config: JsonObject, description: ModelDescription, { layers }: PruningPlan): JsonObject {
  const widths = config[expertWidthsKey];
  if (!Array.isArray(widths)) return config;
  const kept = description.layers.map(({ index }, i): unknown => {
    const own: unknown = widths[i];
    return Array.isArray(own) ? layers[String(index)]!.kept.map((expert): unknown => own[expert]) : own;
  });
  return { ...config, [expertWidthsKey]: kept };
}
