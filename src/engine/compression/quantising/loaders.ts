import type { QuantisationPlan } from "../../../protocol/plan";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";

/** Whether a loader takes a form of fused experts; "wrong": it loads without a message and computes other numbers. */
type Verdict = "yes" | "no" | "wrong" | "untested";

interface Loads {
  transformers: Verdict;
  vLLM: Verdict;
  SGLang: Verdict;
}

/**
 * Who loads what for fused experts, as read in the loaders' code and, for transformers 5, as run: transformers 5.18 with
 * compressed-tensors 0.18, vLLM of autumn 2026 (Marlin kernels for experts: 4 and 8 bits), SGLang.
 */
function loadsOf({ format, layers }: QuantisationPlan): Loads {
  const grids = Object.values(layers);
  const isMixed = grids.some(({ bits, group }) => bits !== grids[0]?.bits || group !== grids[0].group);
  // Servers read the scheme of a layer's first expert, and transformers that of the first group, for all.
  if (grids.some(({ experts }) => experts?.some((own) => own !== experts[0]))) {
    return { transformers: "wrong", vLLM: "no", SGLang: "no" };
  }
  switch (format) {
    case "pack-quantized": {
      const served = grids.every(({ bits, group }) => (bits === 4 || bits === 8) && servedGroups.includes(group));
      // transformers takes the first group of config_groups whose pattern mentions experts, for every layer.
      if (isMixed) return { transformers: "wrong", vLLM: served ? "yes" : "no", SGLang: "untested" };
      const symmetric = grids.every((grid) => grid.symmetric !== false);
      return {
        transformers: symmetric ? "yes" : "no",
        vLLM: served ? "yes" : "no",
        SGLang: served ? "yes" : "no",
      };
    }
    case "fp8-block":
      return { transformers: "yes", vLLM: "yes", SGLang: "yes" };
    case "fp8":
      return { transformers: "yes", vLLM: "yes", SGLang: "yes" };
    case "mxfp4":
      return { transformers: "yes", vLLM: "yes", SGLang: "untested" };
  }
}

/** Groups that the Marlin kernels of experts take; 0 is a scale a row. */
const servedGroups = [0, 32, 64, 128];

const words: Record<Verdict, string> = {
  yes: "yes",
  no: "no",
  wrong: "WRONGLY, without a message",
  untested: "not tested",
};

/** The loader table of a plan's output as a note, and the loaders that would compute other numbers without a message. */
export function loaderNotes(
  plan: QuantisationPlan,
  description: ModelDescription,
): { notes: string[]; wrong: string[] } {
  const layers = moeLayers(description);
  const isSplit = layers.some(({ moe }) => moe.storage.kind === "fused" && moe.storage.blocks === undefined);
  const loads = isSplit ? untestedWhereYes(loadsOf(plan)) : loadsOf(plan);
  const table = Object.entries(loads).map(([loader, verdict]) => `${loader} ${words[verdict as Verdict]}`);
  const shards = tensorParallel(plan, description);
  const split = isSplit
    ? "; fused experts are written one tensor a projection, as this family's other layout has them"
    : "";
  return {
    notes: [
      `loads in Reroute yes, ${table.join(", ")}, llama.cpp no (other files)${split}; largest tensor-parallel size ${shards}. ` +
        (plan.options?.["gateUp"] === true && plan.method === "awq"
          ? "Of all but the routed experts, norms before experts, routers and shared experts change (gateUp), in bytes and not in what they compute"
          : "Routers, embedding, head and all but the routed experts keep their bytes"),
    ],
    wrong: Object.entries(loads).flatMap(([loader, verdict]) => (verdict === "wrong" ? [loader] : [])),
  };
}

/** Experts split out of fused tensors: formats that a loader takes, under names that were not tried with it. */
function untestedWhereYes(loads: Loads): Loads {
  const own = (verdict: Verdict): Verdict => (verdict === "yes" ? "untested" : verdict);
  return { transformers: own(loads.transformers), vLLM: own(loads.vLLM), SGLang: own(loads.SGLang) };
}

/** Shards that the experts' width can be cut into with whole groups in each. */
function tensorParallel({ layers }: QuantisationPlan, description: ModelDescription): number {
  const most = moeLayers(description).map(({ layer, moe }) => {
    const { group } = layers[String(layer)]!;
    return Math.floor(moe.intermediateSize / (group === 0 ? 64 : group));
  });
  return Math.max(1, Math.min(...most));
}
