import { mkdir } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomically } from "../checkpoint/atomicFile";
import { openCheckpoint } from "../checkpoint/open";
import { writeSafetensorsFile, type MemoryTensor } from "../checkpoint/safetensorsFile";
import { describeModel } from "../model/families/index";
import { encodeFloats } from "../tensor/floatCodec";
import { createRandom } from "../tensor/random";
import type { ProbeModel } from "./probe";

/** Small, but with more experts than one kernel takes, fewer rows than experts, and no size that is a power of two alone. */
const sizes = { hidden: 48, heads: 4, keyValueHeads: 2, headWidth: 12, experts: 9, width: 40, vocabulary: 100 };

/** Writes a checkpoint of random bf16 weights, a Qwen3-MoE of one layer, and opens it. */
export async function makeCheckModel(directory: string, seed: number): Promise<ProbeModel> {
  const { hidden, heads, keyValueHeads, headWidth, experts, width, vocabulary } = sizes;
  const random = createRandom(seed);
  const tensors = new Map<string, MemoryTensor>();
  const add = (name: string, shape: number[], mean = 0) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const scale = mean === 0 ? shape[shape.length - 1]! ** -0.5 : 0.1;
    const values = Float32Array.from({ length: count }, () => mean + scale * random.normal());
    tensors.set(name, { dtype: "BF16", shape, data: encodeFloats(values, "BF16") });
  };
  const layer = "model.layers.0";
  add("model.embed_tokens.weight", [vocabulary, hidden]);
  for (const norm of ["input_layernorm", "post_attention_layernorm"]) add(`${layer}.${norm}.weight`, [hidden], 1);
  for (const norm of ["q_norm", "k_norm"]) add(`${layer}.self_attn.${norm}.weight`, [headWidth], 1);
  add(`${layer}.self_attn.q_proj.weight`, [heads * headWidth, hidden]);
  for (const name of ["k", "v"]) add(`${layer}.self_attn.${name}_proj.weight`, [keyValueHeads * headWidth, hidden]);
  add(`${layer}.self_attn.o_proj.weight`, [hidden, heads * headWidth]);
  add(`${layer}.mlp.gate.weight`, [experts, hidden]);
  for (let e = 0; e < experts; e++) {
    for (const name of ["gate", "up"]) add(`${layer}.mlp.experts.${e}.${name}_proj.weight`, [width, hidden]);
    add(`${layer}.mlp.experts.${e}.down_proj.weight`, [hidden, width]);
  }
  add("model.norm.weight", [hidden], 1);
  add("lm_head.weight", [vocabulary, hidden]);
  await mkdir(directory, { recursive: true });
  await writeSafetensorsFile(path.join(directory, "model.safetensors"), tensors);
  const config = {
    ...{ model_type: "qwen3_moe", architectures: ["Qwen3MoeForCausalLM"], vocab_size: vocabulary, hidden_size: hidden },
    ...{ num_hidden_layers: 1, num_attention_heads: heads, num_key_value_heads: keyValueHeads, head_dim: headWidth },
    ...{ num_experts: experts, num_experts_per_tok: 2, moe_intermediate_size: width, intermediate_size: width },
    ...{ norm_topk_prob: true, max_position_embeddings: 64, rms_norm_eps: 1e-6, hidden_act: "silu" },
  };
  await writeFileAtomically(path.join(directory, "config.json"), [Buffer.from(JSON.stringify(config))]);
  const checkpoint = await openCheckpoint(directory);
  return { checkpoint, description: describeModel(checkpoint).description };
}

export const checkVocabulary = sizes.vocabulary;
