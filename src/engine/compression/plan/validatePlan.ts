import { RerouteError } from "../../../protocol/errors";
import { planSchema, type CompressionPlan, type EditingPlan, type PruningPlan } from "../../../protocol/plan";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { assertGroupsWork, groupsOf, type KeepOptions } from "./keptCount";
import { assertUniformGroups, validateMergedLayer } from "./validateMerging";
import { withoutGroupLimits } from "./groupLimits";
import { moeLayers } from "../../model/moeLayers";
import { planOfOtherTool } from "./otherTools";
import { predictionLayers } from "./predictionLayers";
import { validateNeuronLayer } from "../neurons/neuronsPlan";
import { validateQuantisedLayer } from "../quantising/quantisationPlan";
import { validateSparseLayer } from "../sparsity/sparsityPlan";

/**
 * Reads a plan from JSON text: Reroute's own form, or kept experts as other tools write them.
 * @param source where the text comes from, for messages
 * @param keep how much of a ranked list stays, a share up to 1 or a count; with `multipleOf`, what every plan must keep to
 * @throws RerouteError `plan/invalid`
 */
export function parsePlan(text: string, source: string, keep: KeepOptions): CompressionPlan {
  const plan = planOfOtherTool(text, source, keep) ?? ownPlan(text, source);
  const { multipleOf } = keep;
  for (const [layer, { length }] of multipleOf === undefined ? [] : staying(plan)) {
    if (length % multipleOf! === 0) continue;
    throw invalid(
      `The plan ${source} keeps ${length} experts in layer ${layer}, which is no multiple of ${multipleOf}; only the counts of a ranked list are rounded. Make another plan, or leave the multiple out`,
    );
  }
  return plan;
}

/** What stays of each layer; where experts themselves change, all of them stay, whatever their number. */
function staying(plan: CompressionPlan): [layer: string, kept: readonly unknown[]][] {
  switch (plan.paradigm) {
    case "pruning":
      return Object.entries(plan.layers).map(([layer, { kept }]) => [layer, kept]);
    case "merging":
      return Object.entries(plan.layers).map(([layer, { groups }]) => [layer, groups]);
    default:
      return [];
  }
}

function ownPlan(text: string, source: string): CompressionPlan {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(`The plan ${source} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const parsed = planSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw invalid(
    `The plan ${source} does not follow its schema at ${issue.path.join(".") || "its top"}: ${issue.message}. Read are ` +
      `compression-plan.json, and a mask, a ranked list or a list of kept experts for each layer (docs/compression-methods.md)`,
  );
}

/**
 * Refuses every plan that cannot be applied to this model, before any work.
 * @throws RerouteError `plan/invalid`
 */
export function validatePlan(plan: CompressionPlan, description: ModelDescription, fingerprint: string): void {
  if (plan.teacherFingerprint !== undefined && plan.teacherFingerprint !== fingerprint) {
    throw invalid(
      `The plan was made for a checkpoint with fingerprint ${plan.teacherFingerprint.slice(0, 12)}, this one has ` +
        `${fingerprint.slice(0, 12)}; make a plan for this checkpoint, or remove teacherFingerprint from a plan you know to fit`,
    );
  }
  const layers = moeLayers(description);
  // A pruning plan may say which experts of a multi-token-prediction layer stay.
  const prediction = plan.paradigm === "pruning" ? predictionLayers(description) : [];
  for (const key of Object.keys(plan.layers)) {
    if (![...layers, ...prediction].some(({ layer }) => String(layer) === key)) {
      throw invalid(
        `The plan names layer ${key}, which is no MoE layer of this checkpoint (those are ${ranges(layers.map((l) => l.layer))})`,
      );
    }
  }
  const missing = layers.filter(({ layer }) => !Object.hasOwn(plan.layers, String(layer))).map(({ layer }) => layer);
  if (missing.length > 0) {
    throw invalid(
      `The plan says nothing about the MoE layers ${ranges(missing)}; list every MoE layer, with all experts where none leaves`,
    );
  }
  for (const { layer, moe } of layers) {
    if (moe.logicalToPhysical) {
      throw invalid(
        `Layer ${layer} is already merged with a logical-to-physical map; compressing it further is not supported`,
      );
    }
  }
  switch (plan.paradigm) {
    case "pruning":
      for (const { layer, moe } of [...layers, ...prediction]) {
        if (Object.hasOwn(plan.layers, String(layer))) {
          validatePrunedLayer(plan, layer, plan.groupLimits === "drop" ? withoutGroupLimits(moe) : moe);
        }
      }
      assertUniform(plan);
      break;
    case "merging":
      for (const { layer, moe } of layers) validateMergedLayer(plan, layer, moe);
      assertUniformGroups(plan);
      break;
    case "editing":
      for (const { layer, moe } of layers) validateEditedLayer(plan, layer, moe);
      break;
    case "sparsity":
      for (const { layer, moe } of layers) validateSparseLayer(plan, layer, moe, description.hiddenSize);
      break;
    case "router":
      break;
    case "quantisation":
      for (const { layer, moe } of layers) validateQuantisedLayer(plan, layer, moe.numExperts);
      break;
    case "neurons":
      for (const { layer, moe } of layers) validateNeuronLayer(plan, layer, moe);
      break;
  }
}

function validatePrunedLayer(plan: PruningPlan, layer: number, moe: MoeDescription): void {
  const { kept, scores, replaceByConstant } = plan.layers[String(layer)]!;
  if (scores !== undefined && scores.length !== moe.numExperts) {
    throw invalid(
      `The plan lists ${scores.length} experts for layer ${layer}, which has ${moe.numExperts}; use a plan for this model`,
    );
  }
  if (replaceByConstant === true) {
    const others = Object.entries(plan.layers).find(([, other]) => other.replaceByConstant !== true);
    if (others) {
      throw invalid(
        `The plan replaces experts of layer ${layer} by constants, but drops those of layer ${others[0]}; do the same in every layer`,
      );
    }
    if (moe.storage.kind !== "per-expert") {
      throw invalid(
        `The plan replaces experts of layer ${layer} by constants, which needs one tensor an expert; this layer's are fused`,
      );
    }
  }
  kept.forEach((expert, i) => {
    if (expert >= moe.numExperts) {
      throw invalid(`The plan keeps expert ${expert} of layer ${layer}, which has experts 0 to ${moe.numExperts - 1}`);
    }
    if (i > 0 && expert <= kept[i - 1]!) {
      throw invalid(
        `The plan lists experts ${kept[i - 1]!}, ${expert} of layer ${layer} in this order; list each kept expert once, ascending`,
      );
    }
  });
  if (kept.length < moe.numExpertsPerToken) {
    throw invalid(
      `The plan keeps ${kept.length} experts of layer ${layer}, but its router selects ${moe.numExpertsPerToken} a token`,
    );
  }
  validateGroups(kept, layer, moe);
}

/** What a rank may be called: a projection, or a part of one that a method factorises apart. */
const rankName = /^(gateProj|upProj|downProj)(\.(bases|experts|outputs|inputs))?$/;

/**
 * Refuses ranks that a layer's matrices cannot have.
 * @throws RerouteError `plan/invalid`
 */
function validateEditedLayer(plan: EditingPlan, layer: number, moe: MoeDescription): void {
  for (const [name, rank] of Object.entries(plan.layers[String(layer)]!.ranks)) {
    const match = rankName.exec(name);
    if (match === null) {
      throw invalid(
        `The plan gives a rank for ${JSON.stringify(name)} in layer ${layer}; ranks are for gateProj, upProj, downProj`,
      );
    }
    const part = match[2];
    if ((part === "bases" || part === "experts") && rank > moe.numExperts) {
      throw invalid(`The plan asks for ${rank} ${name} in layer ${layer}, which has ${moe.numExperts} experts`);
    }
  }
}

function validateGroups(kept: number[], layer: number, moe: MoeDescription): void {
  const groups = groupsOf(moe);
  if (groups === 1) return;
  const size = moe.numExperts / groups;
  const counts = Array.from(
    { length: groups },
    (_, g) => kept.filter((expert) => Math.floor(expert / size) === g).length,
  );
  if (counts.some((count) => count !== counts[0])) {
    throw invalid(
      `The plan keeps ${counts.join(", ")} experts in the ${groups} routing groups of layer ${layer} (${size} experts each); ` +
        `keep the same number in every group, or drop the limit with "groupLimits": "drop"`,
    );
  }
  assertGroupsWork(kept.length, layer, moe);
}

function assertUniform(plan: PruningPlan): void {
  if (plan.counts === "by-layer") return;
  const [first, ...others] = Object.entries(plan.layers);
  const different = others.find(([, { kept }]) => kept.length !== first![1].kept.length);
  if (!first || !different) return;
  throw invalid(
    `The plan keeps ${first[1].kept.length} experts in layer ${first[0]} and ${different[1].kept.length} in layer ${different[0]}; ` +
      `config.json holds one number for all layers, so transformers, vLLM and llama.cpp could not load the result; keep the same number everywhere, or say "counts": "by-layer" for a checkpoint that only Reroute loads`,
  );
}

/** "0-3, 5" for [0, 1, 2, 3, 5]. */
function ranges(numbers: number[]): string {
  const parts: [number, number][] = [];
  for (const n of numbers) {
    const last = parts.at(-1);
    if (last?.[1] === n - 1) last[1] = n;
    else parts.push([n, n]);
  }
  return parts.map(([from, to]) => (from === to ? String(from) : `${from}-${to}`)).join(", ");
}

function invalid(message: string): RerouteError {
  return new RerouteError("plan/invalid", message);
}
