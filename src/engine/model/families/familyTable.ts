import { denseFamilies, families } from "./index";

/** What someone who looks for a model reads of a family. */
export interface FamilyRow {
  modelType: string;
  /** What it is for: a dense family has nothing to compress. */
  kind: "MoE" | "dense";
  examples: string;
  attention: string;
  /** What works, where that is not everything. */
  limits: string;
  /** Programs that load what Reroute writes. */
  loadedBy: string[];
}

/** One row for each family, by model_type, those with experts first. */
export function familyTable(): FamilyRow[] {
  return [...families.values(), ...denseFamilies.values()]
    .map(({ modelType, isDense = false, about: { architectures, examples, attention, limits = "" } }) => ({
      ...{ modelType, kind: isDense ? ("dense" as const) : ("MoE" as const), examples, attention, limits },
      loadedBy: [
        "transformers",
        ...(architectures.some((name) => vllm.has(name)) ? ["vLLM"] : []),
        ...(architectures.some((name) => llamaCpp.has(name)) ? ["llama.cpp"] : []),
      ],
    }))
    .sort((a, b) => (a.kind + a.modelType < b.kind + b.modelType ? -1 : 1));
}

/** Architectures that vLLM registers (vllm/model_executor/models/registry.py, spring 2026) and a family of ours has. */
const vllm = new Set([
  ...["AfmoeForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM"],
  ...["Dots1ForCausalLM", "Ernie4_5_MoeForCausalLM", "ExaoneMoEForCausalLM", "FlexOlmoForCausalLM"],
  ...["Glm4MoeForCausalLM", "GptOssForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
  ...["HunYuanMoEV1ForCausalLM", "Lfm2MoeForCausalLM", "Llama4ForCausalLM", "MiMoV2FlashForCausalLM"],
  ...["MiniMaxM2ForCausalLM", "MixtralForCausalLM", "OlmoeForCausalLM", "PhiMoEForCausalLM"],
  ...["Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"],
  ...["Llama4ForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"],
  ...["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GraniteForCausalLM"],
  ...["HunYuanDenseV1ForCausalLM", "Ernie4_5ForCausalLM", "Phi3ForCausalLM", "Olmo2ForCausalLM", "Glm4ForCausalLM"],
  ...["Gemma2ForCausalLM", "Gemma3ForCausalLM"],
]);

/** Architectures that llama.cpp converts (conversion/__init__.py, spring 2026) and a family of ours has. */
const llamaCpp = new Set([
  ...["AfmoeForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "Dots1ForCausalLM"],
  ...["Ernie4_5_MoeForCausalLM", "ExaoneMoEForCausalLM", "Gemma4ForConditionalGeneration", "Glm4MoeForCausalLM"],
  ...["Glm4MoeLiteForCausalLM", "GptOssForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
  ...["HunYuanMoEV1ForCausalLM", "Lfm2MoeForCausalLM", "Llama4ForCausalLM", "Llama4ForConditionalGeneration"],
  ...["MiMoV2FlashForCausalLM", "MiniMaxM2ForCausalLM", "MixtralForCausalLM", "OlmoeForCausalLM"],
  ...["PhiMoEForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"],
  ...["Qwen3VLMoeForConditionalGeneration", "Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"],
  "SolarOpenForCausalLM",
  ...["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GraniteForCausalLM"],
  ...["HunYuanDenseV1ForCausalLM", "Ernie4_5ForCausalLM", "Phi3ForCausalLM", "Olmo2ForCausalLM", "Glm4ForCausalLM"],
  ...["Gemma2ForCausalLM", "Gemma3ForCausalLM"],
]);
