/**
 * What llama.cpp computes under the name of an architecture, as far as models of a family differ in it: what a row does not
 * allow, its loader would drop without a word. Read in src/llama-model.cpp and src/llama-graph.cpp of ggml-org/llama.cpp.
 */
export interface LlamaArchitecture {
  /** `general.architecture` */
  name: string;
  /** How rotary positions pair the dimensions of a head: rows of Q and K are put in that order. */
  pairing: "half" | "interleaved";
  /** "latent": DeepSeek's, whose keys and values are one compressed projection. */
  attention: GroupedQueryRules | "latent";
  routing: {
    scores: "softmax" | "sigmoid";
    /** Whether the chosen weights are made to sum to one; "written": as the file says. */
    renormalises: boolean | "written";
    /** The file says by what they are multiplied, and may hold a correction bias. */
    scales?: true;
    correctionBias?: true;
    /** Experts may be chosen by groups, scored by the sum of their best two. */
    groups?: true;
  };
  /** gpt-oss: its clamped activation, and biases of routers and experts. */
  clampedWithBiases?: true;
  /** "gated": one with a sigmoid gate of its own; "counted": as wide as so many routed ones; "plain": of any width. */
  shared: "none" | "gated" | "counted" | "plain";
  /** Whether the first layers may be dense. */
  leadingDense: boolean;
  /** Where the width of routed experts is written: of its own, or that of any feed-forward part. */
  expertWidth: "expert_feed_forward_length" | "feed_forward_length";
  /** Granite's multipliers of embedding, residuals, attention and logits. */
  multipliers?: true;
  /** Tensor of the norm before the feed-forward part. */
  feedForwardNorm: "ffn_norm" | "post_attention_norm";
}

/** What an architecture allows of attention that compares queries with keys. */
export interface GroupedQueryRules {
  /** Of queries, keys and values; of the output. */
  bias: "none" | "required" | "optional";
  outputBias: "none" | "required" | "optional";
  /** Over each head or the whole projection of queries and keys. */
  norms: "none" | "head" | "projection";
  normsAreOptional?: true;
  /** Whether its loader expects as many heads of keys as of queries. */
  equalHeads?: true;
  /** gpt-oss: a score a head that takes probability away, and a window in every other layer from the first on. */
  sinksAndWindows?: true;
}

const common = { leadingDense: false, feedForwardNorm: "ffn_norm", shared: "none" } as const;

const granite: LlamaArchitecture = {
  ...common,
  ...{ name: "granitemoe", pairing: "interleaved", multipliers: true },
  attention: { bias: "optional", outputBias: "optional", norms: "none" },
  routing: { scores: "softmax", renormalises: true },
  ...{ shared: "plain", expertWidth: "feed_forward_length" },
};

const leading = { leadingDense: true, shared: "counted", expertWidth: "expert_feed_forward_length" } as const;
const sigmoid = { scores: "sigmoid", renormalises: "written", scales: true, correctionBias: true } as const;

const deepseek = {
  ...common,
  ...leading,
  name: "deepseek2",
  pairing: "interleaved",
  attention: "latent",
} as const;

/** By model_type. Families that are not here cannot be exported. */
export const llamaArchitectures: Readonly<Record<string, LlamaArchitecture>> = {
  qwen3_moe: {
    ...common,
    ...{ name: "qwen3moe", pairing: "half", expertWidth: "expert_feed_forward_length" },
    attention: { bias: "none", outputBias: "none", norms: "head" },
    routing: { scores: "softmax", renormalises: true },
  },
  qwen2_moe: {
    ...common,
    ...{ name: "qwen2moe", pairing: "half", shared: "gated", expertWidth: "expert_feed_forward_length" },
    attention: { bias: "required", outputBias: "none", norms: "none" },
    routing: { scores: "softmax", renormalises: false },
  },
  mixtral: {
    ...common,
    ...{ name: "llama", pairing: "interleaved", expertWidth: "feed_forward_length" },
    attention: { bias: "optional", outputBias: "optional", norms: "none" },
    routing: { scores: "softmax", renormalises: true },
  },
  olmoe: {
    ...common,
    ...{ name: "olmoe", pairing: "half", expertWidth: "feed_forward_length" },
    attention: { bias: "none", outputBias: "none", norms: "projection", equalHeads: true },
    routing: { scores: "softmax", renormalises: false },
  },
  deepseek_v2: { ...deepseek, routing: { scores: "softmax", renormalises: false, scales: true } },
  deepseek_v3: { ...deepseek, routing: { ...sigmoid, groups: true } },
  gpt_oss: {
    ...common,
    ...{ name: "gpt-oss", pairing: "half", feedForwardNorm: "post_attention_norm", clampedWithBiases: true },
    ...{ shared: "none", expertWidth: "expert_feed_forward_length" },
    attention: { bias: "required", outputBias: "required", norms: "none", sinksAndWindows: true },
    routing: { scores: "softmax", renormalises: true },
  },
  granitemoe: granite,
  granitemoeshared: granite,
  dots1: {
    ...common,
    ...leading,
    ...{ name: "dots1", pairing: "half" },
    attention: { bias: "none", outputBias: "none", norms: "head", equalHeads: true },
    routing: sigmoid,
  },
  glm4_moe: {
    ...common,
    ...leading,
    ...{ name: "glm4moe", pairing: "half", feedForwardNorm: "post_attention_norm" },
    attention: { bias: "optional", outputBias: "none", norms: "head", normsAreOptional: true },
    routing: sigmoid,
  },
};
