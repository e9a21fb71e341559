import { decodeFloats, encodeFloats } from "../../src/engine/tensor/floatCodec";
import type { GgufNumbers } from "./ggufTensors";

/** Sizes of a Qwen3-MoE model, as config.json has them. */
export interface Qwen3MoeSizes {
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  num_experts_per_tok: number;
  rope_theta: number;
  rms_norm_eps: number;
}

/**
 * Next-token probabilities of a Qwen3-MoE model behind each token, in plain loops from the numbers of its GGUF file, as
 * llama.cpp computes them on a processor: before a product with weights in blocks, activations become blocks of 32 8-bit integers
 * with an F16 scale (quantize_row_q8_0 of ggml), and before one with F16 weights they become F16. Without `rounds` nothing
 * is rounded, which is what the file says.
 */
export function qwen3MoeProbabilities(
  numbers: ReadonlyMap<string, GgufNumbers>,
  sizes: Qwen3MoeSizes,
  ids: readonly number[],
  rounds: boolean,
): Float64Array[] {
  const { num_attention_heads: heads, num_key_value_heads: keyHeads, head_dim: D, rms_norm_eps: epsilon } = sizes;
  const tensor = (name: string) => numbers.get(`${name}.weight`)!;
  const times = (name: string, x: Float64Array, expert = 0): Float64Array => {
    const { type, values } = tensor(name);
    const input = rounds ? activationsFor(type, x) : x;
    const experts = name.endsWith("_exps") ? numbers.get(name.replace(/ffn_.*/, "ffn_gate_inp.weight"))!.shape[0]! : 1;
    const rows = values.length / experts / x.length;
    const from = expert * rows * x.length;
    return Float64Array.from({ length: rows }, (_, row) => {
      let sum = 0;
      for (let i = 0; i < x.length; i++) sum += input[i]! * values[from + row * x.length + i]!;
      return sum;
    });
  };
  const norm = (x: Float64Array, weights: Float32Array) => {
    const scale = 1 / Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length + epsilon);
    return x.map((v, i) => v * scale * weights[i]!);
  };
  const rotated = (x: Float64Array, position: number) =>
    x.map((v, i) => {
      const pair = i % (D / 2);
      const angle = position * sizes.rope_theta ** ((-2 * pair) / D);
      const other = i < D / 2 ? -x[i + D / 2]! : x[i - D / 2]!;
      return v * Math.cos(angle) + other * Math.sin(angle);
    });
  const headsOf = (x: Float64Array, position: number, weights: Float32Array) =>
    Array.from({ length: x.length / D }, (_, h) => rotated(norm(x.slice(h * D, (h + 1) * D), weights), position));

  const embedding = tensor("token_embd").values;
  const H = tensor("output_norm").values.length;
  const hidden = ids.map((id) => Float64Array.from(embedding.subarray(id * H, (id + 1) * H)));
  const add = (t: number, x: Float64Array) => x.forEach((v, i) => (hidden[t]![i]! += v));
  for (let layer = 0; layer < sizes.num_hidden_layers; layer++) {
    const own = (name: string) => `blk.${layer}.${name}`;
    const inputs = hidden.map((x) => norm(x, tensor(own("attn_norm")).values));
    const keys = inputs.map((x, t) => headsOf(times(own("attn_k"), x), t, tensor(own("attn_k_norm")).values));
    const values = inputs.map((x) => times(own("attn_v"), x));
    inputs.forEach((x, t) => {
      const queries = headsOf(times(own("attn_q"), x), t, tensor(own("attn_q_norm")).values);
      const mixed = new Float64Array(heads * D);
      queries.forEach((query, h) => {
        const k = Math.floor(h / (heads / keyHeads));
        const scores = softmax(Float64Array.from({ length: t + 1 }, (_, s) => dot(query, keys[s]![k]!) / Math.sqrt(D)));
        scores.forEach((share, s) => {
          for (let i = 0; i < D; i++) mixed[h * D + i]! += share * values[s]![k * D + i]!;
        });
      });
      add(t, times(own("attn_output"), mixed));
    });
    for (const [t, state] of hidden.entries()) {
      const x = norm(state, tensor(own("ffn_norm")).values);
      const shares = softmax(times(own("ffn_gate_inp"), x));
      const chosen = [...shares.keys()].sort((a, b) => shares[b]! - shares[a]!).slice(0, sizes.num_experts_per_tok);
      const total = chosen.reduce((sum, e) => sum + shares[e]!, 0);
      const sum = new Float64Array(H);
      for (const e of chosen) {
        const up = times(own("ffn_up_exps"), x, e);
        const gated = times(own("ffn_gate_exps"), x, e).map((g, i) => (g / (1 + Math.exp(-g))) * up[i]!);
        times(own("ffn_down_exps"), gated, e).forEach((v, i) => (sum[i]! += (shares[e]! / total) * v));
      }
      add(t, sum);
    }
  }
  const head = numbers.has("output.weight") ? "output" : "token_embd";
  return hidden.map((x) => softmax(times(head, norm(x, tensor("output_norm").values))));
}

/** What ggml's products read in place of activations. */
function activationsFor(type: string, x: Float64Array): Float64Array {
  if (type === "F32") return x;
  const half = (values: Float64Array) => decodeFloats(encodeFloats(Float32Array.from(values), "F16"), "F16");
  if (type === "F16") return Float64Array.from(half(x));
  const result = new Float64Array(x.length);
  for (let from = 0; from < x.length; from += 32) {
    const block = x.subarray(from, from + 32);
    const most = block.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    const scale = half(Float64Array.of(most / 127))[0]!;
    block.forEach((v, i) => (result[from + i] = most === 0 ? 0 : Math.round((v * 127) / most) * scale));
  }
  return result;
}

function softmax(values: Float64Array): Float64Array {
  const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = values.map((v) => Math.exp(v - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((v) => v / sum);
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, v, i) => sum + v * b[i]!, 0);
}
