import type { JsonObject } from "../../model/family";
import type { MoeDescription } from "../../model/description";
import { editTextConfig } from "../../model/textTower";

/** A layer as it routes once its group limits are dropped. */
export function withoutGroupLimits(moe: MoeDescription): MoeDescription {
  const { routing } = moe;
  if (routing.kind === "sparse-mixer" || routing.groups === null) return moe;
  return { ...moe, routing: { ...routing, groups: null } };
}

/**
 * config.json without group limits: one group, of which one is chosen (DeepSeek-V3 and GLM read both and have other
 * defaults), and DeepSeek-V2's greedy selection.
 */
export function configWithoutGroupLimits(config: JsonObject): JsonObject {
  return editTextConfig(config, (text) => {
    const isLimited = Object.hasOwn(text, "topk_method") && text["topk_method"] === "group_limited_greedy";
    return { ...text, n_group: 1, topk_group: 1, ...(isLimited ? { topk_method: "greedy" } : {}) };
  });
}

/** What dropping the limits means, said before it is done. */
export function droppedLimitsNote(layers: readonly { moe: MoeDescription }[]): string[] {
  const limited = layers.flatMap(({ moe: { routing } }) =>
    routing.kind !== "sparse-mixer" && routing.groups ? [routing.groups] : [],
  )[0];
  if (!limited) return [];
  return [
    `Routing is no longer limited to ${limited.topGroups} of ${limited.numGroups} groups (n_group = topk_group = 1): tokens may ` +
      `choose other experts than the teacher's even where no expert left`,
  ];
}
