import { decoderFamily, type DecoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { byType, readGatedDelta, linearButEvery, type DeltaSizes } from "../hybridAttention";
import { softmaxThenTopK } from "../routingRules";
import { flag, size } from "../settings";
import { inSteps } from "../sparseLayers";
import { textTowerOf } from "../textTower";

type Input = Parameters<typeof readGatedDelta>[0];

const widths = ({ numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim }: DeltaSizes) => ({
  keys: numKeyHeads * keyHeadDim,
  values: numValueHeads * valueHeadDim,
});

const byKeyHead: Input = ({ weights, sizes: { hiddenSize } }, prefix, delta) => {
  const { keys, values } = widths(delta);
  const linear = (name: string, outputs: number) =>
    weights.linear(`${prefix}.${name}`, hiddenSize, outputs, { bias: false, because: delta.because });
  return {
    kind: "by-key-head",
    queryKeyValueGate: linear("in_proj_qkvz", 2 * keys + 2 * values),
    betaTime: linear("in_proj_ba", 2 * delta.numValueHeads),
  };
};

const separate: Input = ({ weights, sizes: { hiddenSize } }, prefix, delta) => {
  const { keys, values } = widths(delta);
  const linear = (name: string, outputs: number) =>
    weights.linear(`${prefix}.${name}`, hiddenSize, outputs, { bias: false, because: delta.because });
  return {
    kind: "separate",
    queryKeyValue: linear("in_proj_qkv", 2 * keys + values),
    gate: linear("in_proj_z", values),
    beta: linear("in_proj_b", delta.numValueHeads),
    time: linear("in_proj_a", delta.numValueHeads),
  };
};

/** What both generations share: three layers of gated delta rule to one of gated attention, norms that multiply by 1 + w. */
const common = (input: Input) =>
  ({
    only: {
      hidden_act: [["silu", "swish"], "the convolution of linear attention is followed by a silu"],
      attn_output_gate: [[true], "attention's output is gated in this family"],
    },
    norm: "rms plus one",
    attention: byType(
      {
        linear_attention: readGatedDelta(input),
        full_attention: groupedQuery({
          rotary: { defaultTheta: 10_000, partialFactor: () => 0.25 },
          bias: flag("attention_bias", false),
          norms: { ...perHead, kind: "rms plus one" },
          outputGate: { in: "query" },
        }),
      },
      linearButEvery("full_attention_interval", 4),
    ),
  }) satisfies Partial<DecoderFamily>;

const experts = {
  size: size("moe_intermediate_size", 512),
  experts: { projections: llamaNames },
  shared: {
    names: ["mlp.shared_expert"],
    size: size("shared_expert_intermediate_size", 512),
    because: "shared_expert_intermediate_size",
    gate: "mlp.shared_expert_gate",
  },
} satisfies Partial<DecoderFamily["feedForward"]>;

/** The multi-token-prediction layer is left untouched. */
export const qwen3Next = decoderFamily({
  ...common(byKeyHead),
  modelType: "qwen3_next",
  about: {
    architectures: ["Qwen3NextForCausalLM"],
    examples: "Qwen3-Next-80B-A3B, Qwen3-Coder-Next",
    attention: "gated delta rule and gated grouped-query",
  },
  sizes: {
    ...{ vocab: 151936, hidden: 2048, layers: 48, heads: 16, keyValueHeads: 2, headDim: 256 },
    ...{ positions: 32768, epsilon: 1e-6 },
  },
  feedForward: {
    ...experts,
    sparse: inSteps("num_experts", 512),
    dense: { size: size("intermediate_size", 5632) },
    count: { keys: ["num_experts"], absent: 512, perToken: 10 },
    routing: softmaxThenTopK(flag("norm_topk_prob", true)),
  },
});

/** As Qwen3-Next, with one projection for each of what linear attention reads. */
export const qwen35MoeText = decoderFamily({
  ...common(separate),
  modelType: "qwen3_5_moe_text",
  about: {
    architectures: ["Qwen3_5MoeForCausalLM"],
    examples: "the language model of Qwen3.5-35B-A3B",
    attention: "gated delta rule and gated grouped-query",
  },
  sizes: {
    ...{ vocab: 248320, hidden: 2048, layers: 40, heads: 16, keyValueHeads: 2, headDim: 256 },
    ...{ positions: 32768, epsilon: 1e-6 },
  },
  feedForward: {
    ...experts,
    count: { keys: ["num_experts"], absent: 256, perToken: 8 },
    routing: softmaxThenTopK(true),
  },
});

export const qwen35Moe = textTowerOf(qwen35MoeText, "qwen3_5_moe", {
  ...qwen35MoeText.about,
  architectures: ["Qwen3_5MoeForConditionalGeneration"],
  examples: "Qwen3.5-35B-A3B, Qwen3.5-122B-A10B, Qwen3.5-397B-A17B",
});
