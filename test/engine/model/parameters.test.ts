import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { countParameters, flopsPerToken } from "../../../src/engine/model/parameters";
import { processorMs } from "../../support/processorTime";
import { addTensor, isVision, openGolden, type EditableCheckpoint } from "./goldens";

/** A Qwen3-MoE checkpoint that is only headers. */
function qwen3Headers(config: Record<string, number>): Checkpoint {
  const { hidden, layers, heads, keyValueHeads, headDim, experts, k, intermediate, vocab } = config as Record<
    string,
    number
  > &
    Record<
      "hidden" | "layers" | "heads" | "keyValueHeads" | "headDim" | "experts" | "k" | "intermediate" | "vocab",
      number
    >;
  const shard = { name: "model.safetensors", realPath: "", sizeBytes: 0, modifiedMs: 0, metadata: {} };
  const checkpoint: EditableCheckpoint = {
    directory: "",
    shards: [shard],
    tensors: new Map(),
    config: {
      model_type: "qwen3_moe",
      hidden_size: hidden,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: keyValueHeads,
      head_dim: headDim,
      num_experts: experts,
      num_experts_per_tok: k,
      moe_intermediate_size: intermediate,
      vocab_size: vocab,
    },
  };
  const add = (name: string, ...shape: number[]) => addTensor(checkpoint, `${name}.weight`, shape);
  add("model.embed_tokens", vocab, hidden);
  add("lm_head", vocab, hidden);
  add("model.norm", hidden);
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`;
    add(`${prefix}.input_layernorm`, hidden);
    add(`${prefix}.post_attention_layernorm`, hidden);
    add(`${prefix}.self_attn.q_proj`, heads * headDim, hidden);
    add(`${prefix}.self_attn.k_proj`, keyValueHeads * headDim, hidden);
    add(`${prefix}.self_attn.v_proj`, keyValueHeads * headDim, hidden);
    add(`${prefix}.self_attn.o_proj`, hidden, heads * headDim);
    add(`${prefix}.self_attn.q_norm`, headDim);
    add(`${prefix}.self_attn.k_norm`, headDim);
    add(`${prefix}.mlp.gate`, experts, hidden);
    for (let expert = 0; expert < experts; expert++) {
      add(`${prefix}.mlp.experts.${expert}.gate_proj`, intermediate, hidden);
      add(`${prefix}.mlp.experts.${expert}.up_proj`, intermediate, hidden);
      add(`${prefix}.mlp.experts.${expert}.down_proj`, hidden, intermediate);
    }
  }
  return checkpoint;
}

describe("parameters", () => {
  it.each([...families.keys()])("of %s are the elements of its tensors", async (family) => {
    const checkpoint = await openGolden(family);
    const text = [...checkpoint.tensors.values()].filter(({ name }) => !isVision(name));
    const elements = text.reduce((sum, { byteLength }) => sum + byteLength / 2, 0);
    expect(countParameters(describeModel(checkpoint).description).total).toBe(elements);
  });

  it.each([
    { experts: 128, total: 30.53e9 },
    // What pruning to 62.5 % and 75 % leaves (Router KD, arXiv 2603.02217).
    { experts: 80, total: 19.66e9 },
    { experts: 96, total: 23.28e9 },
  ])("Qwen3-30B-A3B with $experts experts", ({ experts, total }) => {
    const qwen = {
      hidden: 2048,
      layers: 48,
      heads: 32,
      keyValueHeads: 4,
      headDim: 128,
      experts,
      k: 8,
      intermediate: 768,
      vocab: 151936,
    };
    const start = processorMs();
    const { description } = describeModel(qwen3Headers(qwen));
    expect(processorMs() - start).toBeLessThan(2000);
    const count = countParameters(description);
    expect(count.total / 1e6).toBeCloseTo(total / 1e6, -1);
    // "3.3B activated", says the model card.
    expect(count.active).toBeGreaterThan(3.3e9);
    expect(count.active).toBeLessThan(3.4e9);
  });

  it("counts a tied table once", async () => {
    const checkpoint = await openGolden("mixtral");
    const untied = countParameters(describeModel(checkpoint).description);
    checkpoint.config["tie_word_embeddings"] = true;
    checkpoint.tensors.delete("lm_head.weight");
    const tied = countParameters(describeModel(checkpoint).description);
    expect([untied.total - tied.total, untied.active - tied.active]).toEqual([160 * 32, 160 * 32]);
  });

  it("by hand: mixtral of the goldens", async () => {
    const { description } = describeModel(await openGolden("mixtral"));
    // Hidden 32, 3 layers, 4 heads and 2 key-value heads of 8, 2 of 8 experts of 24, vocabulary 160.
    const attention = 32 * 32 + 2 * 16 * 32 + 32 * 32;
    const expert = 3 * 32 * 24;
    const outside = 2 * 160 * 32 + 32;
    expect(countParameters(description)).toEqual({
      total: outside + 3 * (attention + 2 * 32 + 8 * 32 + 8 * expert),
      active: outside + 3 * (attention + 2 * 32 + 8 * 32 + 2 * expert),
    });
    // Sequences of 3 see 1, 2 and 3 positions, 2 on average; each costs 2 * (8 + 8) operations a head.
    const matrices = 160 * 32 + 3 * (attention + 8 * 32 + 2 * expert);
    expect(flopsPerToken(description, 3)).toBe(2 * matrices + 3 * 4 * 32 * 2);
  });

  it("operations: windows cap what a position sees, latent heads have two sizes, shared experts always run", async () => {
    const flops = async (family: string, length: number, changes: Record<string, unknown> = {}) => {
      const checkpoint = await openGolden(family);
      Object.assign(checkpoint.config, changes);
      return flopsPerToken(describeModel(checkpoint).description, length);
    };
    // Window 2 over 4 positions: 1, 2, 2, 2 = 7/4 instead of 10/4; 3 layers of 4 heads, 32 operations a position.
    const saved = (await flops("mixtral", 4)) - (await flops("mixtral", 4, { sliding_window: 2 }));
    expect(saved).toBeCloseTo(3 * 4 * 32 * (10 / 4 - 7 / 4), 6);
    // One more position on average (n + 1) / 2: 3 layers, 4 heads, 2 * (16 + 8).
    const grown = (await flops("deepseek_v2", 5)) - (await flops("deepseek_v2", 3));
    expect(grown).toBeCloseTo(3 * 4 * 2 * (16 + 8), 6);
    // Shared expert 28 and its gate, 3 layers.
    const { description } = describeModel(await openGolden("qwen2_moe"));
    const without = structuredClone(description);
    for (const { feedForward } of without.layers) if (feedForward.kind === "moe") feedForward.shared = null;
    expect(flopsPerToken(description, 8) - flopsPerToken(without, 8)).toBe(2 * 3 * (3 * 28 * 32 + 32));
  });
});
