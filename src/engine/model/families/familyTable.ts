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

/**
 * Architectures that vLLM registers and a family of ours has: vllm/model_executor/models/registry.py, read on 2026-11-30 at
 * vllm-project/vllm@0002bff0, for what came later in the copy Irisuko/vllm-hust@45de9bf8; Qwen3_5MoeForCausalLM as of
 * vllm-project/vllm@ad5d29db, MiniMax-M3 by what plugins of vLLM 0.28 name.
 */
const vllm = new Set([
  ...["AfmoeForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM"],
  ...["Dots1ForCausalLM", "Ernie4_5_MoeForCausalLM", "ExaoneMoEForCausalLM", "FlexOlmoForCausalLM"],
  ...["Gemma4ForCausalLM", "Gemma4ForConditionalGeneration", "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM"],
  ...["GptOssForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM", "HunYuanMoEV1ForCausalLM"],
  ...["HYV3ForCausalLM", "Lfm2MoeForCausalLM", "Llama4ForCausalLM", "Llama4ForConditionalGeneration"],
  ...["MiMoV2FlashForCausalLM", "MiniMaxM2ForCausalLM", "MiniMaxM3SparseForCausalLM"],
  ...["MiniMaxM3SparseForConditionalGeneration", "MixtralForCausalLM", "OlmoeForCausalLM"],
  ...["PhiMoEForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"],
  ...["Qwen3VLMoeForConditionalGeneration", "Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"],
  ...["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GraniteForCausalLM"],
  ...["HunYuanDenseV1ForCausalLM", "Ernie4_5ForCausalLM", "Phi3ForCausalLM", "Olmo2ForCausalLM", "Glm4ForCausalLM"],
  ...["Gemma2ForCausalLM", "Gemma3ForCausalLM"],
]);

/** Architectures that llama.cpp converts and a family of ours has: conversion/__init__.py, ggml-org/llama.cpp@00bdaa10, read on 2026-11-30. */
const llamaCpp = new Set([
  ...["AfmoeForCausalLM", "Cohere2MoeForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"],
  ...["DeepseekV32ForCausalLM", "Dots1ForCausalLM", "Ernie4_5_MoeForCausalLM", "ExaoneMoEForCausalLM"],
  ...["Gemma4ForCausalLM", "Gemma4ForConditionalGeneration", "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM"],
  ...["GptOssForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM", "HunYuanMoEV1ForCausalLM"],
  ...["Lfm2MoeForCausalLM", "Llama4ForCausalLM", "Llama4ForConditionalGeneration", "MiMoV2FlashForCausalLM"],
  ...["MiniMaxM2ForCausalLM", "MixtralForCausalLM", "OlmoeForCausalLM", "PhiMoEForCausalLM"],
  ...["Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM", "Qwen3VLMoeForConditionalGeneration"],
  ...["Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration", "SolarOpenForCausalLM"],
  ...["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GraniteForCausalLM"],
  ...["HunYuanDenseV1ForCausalLM", "Ernie4_5ForCausalLM", "Phi3ForCausalLM", "Olmo2ForCausalLM", "Glm4ForCausalLM"],
  ...["Gemma2ForCausalLM", "Gemma3ForCausalLM"],
]);
