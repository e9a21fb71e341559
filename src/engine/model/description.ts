import type { WeightView } from "../weights/view";
import type { RotaryDescription } from "./rotaryDescription";

export type { FactoredForm, WeightView } from "../weights/view";
export type { RotaryDescription } from "./rotaryDescription";

/**
 * A model, as its config.json and tensor names describe it. Made by one file per family (families/); everything after
 * it is family-blind. Nothing here holds weights: a WeightView names bytes inside a shard.
 */
export interface ModelDescription {
  family: string;
  vocabSize: number;
  hiddenSize: number;
  maxPositionEmbeddings: number;
  embedding: { weight: WeightView; /** Granite multiplies embeddings. */ multiplier: number };
  layers: LayerDescription[];
  finalNorm: NormDescription;
  head: {
    weight: WeightView;
    bias: WeightView | null;
    /** Logits are multiplied by this (Granite divides by logits_scaling). */
    scale: number;
    /** Logits z become c tanh(z / c) (Gemma); absent: they stay. */
    softcap?: number;
    /** True where the head reads the embedding's bytes. */
    tied: boolean;
  };
  /** Tensors of the checkpoint that the forward pass does not use (MTP layers and the like), copied untouched. */
  unusedTensors: string[];
}

/** y = x W^T + b for layout "out-in" (W is [out, in]); y = x W + b for "in-out" (W is [in, out]). */
export interface LinearDescription {
  weight: WeightView;
  bias: WeightView | null;
  layout: "out-in" | "in-out";
}

export interface NormDescription {
  kind: "rms" | "layer";
  /** null: nothing is multiplied (Llama 4's queries and keys). */
  weight: WeightView | null;
  /** Multiplied by 1 + weight instead (Gemma, Qwen3-Next, MiniMax-M3). */
  plusOne?: true;
  bias: WeightView | null;
  epsilon: number;
}

export interface LayerDescription {
  index: number;
  /** Before attention; null where attention reads the hidden states as they are. */
  inputNorm: NormDescription | null;
  attention: AttentionDescription;
  /** On attention's output, before it joins the residual stream; null in most families. */
  attentionOutputNorm: NormDescription | null;
  /** Before the feed-forward part; null where that reads the hidden states as they are. */
  postAttentionNorm: NormDescription | null;
  feedForward: MlpDescription | MoeDescription;
  /** On the feed-forward part's output, before it joins the residual stream; null in most families. */
  feedForwardOutputNorm: NormDescription | null;
  /** True where the feed-forward part reads what attention reads, beside it and not behind it (Cohere). */
  parallel: boolean;
  /** Attention's output is multiplied by this before it joins the residual stream (Granite); 1 elsewhere. */
  residualMultiplier: number;
  /** The same of the feed-forward part's output. */
  feedForwardMultiplier: number;
  /** [1]: what the whole layer gives is multiplied by it (Gemma 4). Only in layers with experts. */
  scalar?: WeightView;
}

export type AttentionDescription = SoftmaxAttention | GatedDelta | ShortConv;

/** What compares each position with those before it; the others carry a state along the sequence. */
export type SoftmaxAttention = GroupedQueryAttention | LatentAttention;

interface AttentionCommon {
  numHeads: number;
  /** Scores are multiplied by this before the softmax. */
  scale: number;
  /** Positions of queries and keys; null for a layer without rotary positions. */
  rotary: RotaryDescription | null;
  /** Queries of later positions are stretched (Llama 4, Mistral 4); null elsewhere. */
  positionScale: PositionScale | null;
  /** A position sees itself and the `slidingWindow - 1` positions before it; null: all before it. */
  slidingWindow: number | null;
  /** A position sees only positions of its own run of so many, counted from the sequence's start (Llama 4). */
  chunk?: number;
  /**
   * A branch that chooses which positions a query sees (DeepSeek-V3.2, MiniMax-M3); null elsewhere. It chooses all of them
   * in sequences of up to `positions` tokens, where its weights have no say; longer ones are refused.
   */
  indexer: { positions: number; because: string; weights: WeightView[] } | null;
  output: LinearDescription;
}

/** Queries at position p are multiplied by 1 + coefficient * ln(1 + floor((p + offset) / period)). */
export interface PositionScale {
  coefficient: number;
  period: number;
  offset: number;
}

export interface GroupedQueryAttention extends AttentionCommon {
  kind: "grouped-query";
  numKeyValueHeads: number;
  /** Of queries and keys. */
  headDim: number;
  valueHeadDim: number;
  query: LinearDescription;
  key: LinearDescription;
  /** "key": values are what the key projection gives, before norm and rotation (Gemma 4). */
  value: LinearDescription | "key";
  valueNorm?: NormDescription;
  /** Norms of queries and keys; over each head ("head") or over the whole projection ("projection"). */
  queryNorm: NormDescription | null;
  keyNorm: NormDescription | null;
  normScope: "head" | "projection";
  /** Hunyuan normalises after the rotation, the others before it. */
  normAfterRotary: boolean;
  /** Projections are clamped to [-clip, clip] (OLMoE clip_qkv). */
  clip: number | null;
  /** Scores z become c tanh(z / c) for this c before the softmax (Gemma 2); absent: they stay. */
  softcap?: number;
  /** One extra score per head that takes probability away (gpt-oss); [numHeads]. */
  sinks: WeightView | null;
  /** Values are multiplied by this (MiMo-V2); 1 elsewhere. */
  valueScale: number;
  /**
   * What attention gives, before the output projection, is multiplied by sigmoid(gate x) (AFMoE); "in-query" where each
   * head's gate is stored behind its query (Qwen3-Next); null elsewhere.
   */
  outputGate: LinearDescription | "in-query" | null;
}

/** Multi-head latent attention (DeepSeek). */
export interface LatentAttention extends AttentionCommon {
  kind: "latent";
  /** Either one projection, or a compressed one: queryDown, queryNorm, queryUp. */
  query: LinearDescription | { down: LinearDescription; norm: NormDescription; up: LinearDescription };
  /** [kvLoraRank + qkRopeHeadDim, hidden]. */
  keyValueDown: LinearDescription;
  keyValueNorm: NormDescription;
  /** [numHeads * (qkNopeHeadDim + vHeadDim), kvLoraRank]. */
  keyValueUp: LinearDescription;
  qkNopeHeadDim: number;
  qkRopeHeadDim: number;
  vHeadDim: number;
  kvLoraRank: number;
}

/** Linear attention by the gated delta rule (arXiv 2412.06464; Qwen3-Next). Each key head serves the value heads of its group. */
export interface GatedDelta {
  kind: "gated-delta";
  numKeyHeads: number;
  numValueHeads: number;
  keyHeadDim: number;
  valueHeadDim: number;
  input:
    | {
        kind: "separate";
        queryKeyValue: LinearDescription;
        /** Of the output, which its swish multiplies. */
        gate: LinearDescription;
        beta: LinearDescription;
        time: LinearDescription;
      }
    /** Two projections that hold the same, key head by key head. */
    | { kind: "by-key-head"; queryKeyValueGate: LinearDescription; betaTime: LinearDescription };
  /** Over queries, keys and values, followed by a swish; [channels, 1, kernel]. */
  conv: WeightView;
  /** log(-rate) of each value head's decay, and what is added to its time before the softplus. */
  logRate: WeightView;
  timeBias: WeightView;
  /** Over each value head. */
  outputNorm: NormDescription;
  output: LinearDescription;
}

/** Gated short convolution (LFM2): output(C * conv(B * x)); `input` gives B, C and x one beside the other. */
export interface ShortConv {
  kind: "short-conv";
  channels: number;
  input: LinearDescription;
  /** [channels, 1, kernel] */
  weight: WeightView;
  bias: WeightView | null;
  output: LinearDescription;
}

export type Activation = "silu" | "gelu" | "gelu-tanh";

/** How gate and up projections become the intermediate activation. */
export type GatedActivation =
  /** act(gate) * up */
  | { kind: "gated"; activation: Activation }
  /** gpt-oss: gate <= limit, -limit <= up <= limit; gate * sigmoid(alpha * gate) * (up + 1). */
  | { kind: "clamped-swiglu"; limit: number; alpha: number };

export interface MlpDescription {
  kind: "mlp";
  weights: ExpertWeights;
  activation: GatedActivation;
  intermediateSize: number;
}

export interface ExpertWeights {
  /**
   * [hidden]: set for an expert that was replaced by its mean output (MoNE, arXiv 2507.00390). It gives this vector for
   * every token; its projections have no rows.
   */
  constant?: WeightView;
  gateUp: GateUpWeights;
  downProj: LinearDescription;
}

export type GateUpWeights =
  | { kind: "separate"; gateProj: LinearDescription; upProj: LinearDescription }
  /** One projection whose output alternates gate and up (gpt-oss), or has all of the gate first (Qwen3-VL as released). */
  | { kind: "joined"; order: "interleaved" | "halves"; projection: LinearDescription };

export interface MoeDescription {
  kind: "moe";
  router: RouterDescription;
  routing: RoutingDescription;
  /** Routing weights multiply what experts read, not what they give (Llama 4). */
  weightsInput?: true;
  numExperts: number;
  numExpertsPerToken: number;
  experts: ExpertWeights[];
  activation: GatedActivation;
  /** What routed experts' activations are rounded to before each product, a scale a token; absent: they are not. */
  activations?: "int8" | "fp8";
  intermediateSize: number;
  /** The routed experts' sum is multiplied by this before the shared ones join it (MiniMax-M3); 1 elsewhere. */
  routedMultiplier: number;
  /** Over the routed experts' sum, before anything joins it (Gemma 4). */
  routedNorm?: NormDescription;
  shared: SharedExperts | null;
  storage: ExpertStorage;
  /** Merged checkpoints that keep all router rows: physical expert of each logical one. */
  logicalToPhysical: number[] | null;
}

/** Runs on every token; its output is added, times sigmoid(gate(x)) where it has a gate (Qwen2-MoE). */
export interface SharedExperts {
  mlp: MlpDescription;
  gate: LinearDescription | null;
  /** Reads the hidden states through a norm of its own, not what the experts read (Gemma 4). */
  inputNorm?: NormDescription;
  outputNorm?: NormDescription;
}

export interface RouterDescription {
  /** [numExperts, hidden]; [logical experts, hidden] where logicalToPhysical is set. */
  weight: WeightView;
  bias: WeightView | null;
  /** Added to scores for selection only; gets no gradient. */
  correctionBias: WeightView | null;
  /** The router reads the hidden states through this norm and times a number, not what the experts read (Gemma 4). */
  input?: { norm: NormDescription; scale: number };
  /** [experts]: multiplies the routing weights of each expert (Gemma 4). */
  expertScale?: WeightView;
}

/** How router logits become selected experts and routing weights. */
export type RoutingDescription =
  | {
      kind: "softmax";
      keepsMass?: KeptMass;
      /** "before": softmax over all experts, then top-k; "after": top-k of logits, softmax over the selected. */
      softmax: "before" | "after";
      renormalise: boolean;
      /** Added to the divisor when renormalising, or its lower bound (ERNIE clamps). */
      epsilon: number;
      epsilonMode: "add" | "clamp";
      scalingFactor: number;
      groups: GroupLimit | null;
      /** Selection uses probabilities plus the correction bias. */
      useCorrectionBias: boolean;
    }
  | {
      kind: "sigmoid";
      keepsMass?: KeptMass;
      renormalise: boolean;
      epsilon: number;
      scalingFactor: number;
      groups: GroupLimit | null;
      useCorrectionBias: boolean;
    }
  /** PhiMoE: two sequential arg-max steps, each weight a softmax over logits near the maximum. */
  | { kind: "sparse-mixer"; jitter: number };

/**
 * Set where other experts are active than the family's own rule takes: their weights are multiplied, token by token, so that
 * they sum to what those of the own rule would.
 */
export interface KeptMass {
  numExpertsPerToken: number;
  groups: GroupLimit | null;
}

export interface GroupLimit {
  numGroups: number;
  topGroups: number;
  /** A group's score: its best expert (DeepSeek-V2) or the sum of its best two (V3). */
  score: "max" | "sum-of-two";
}

/** How expert tensors are stored, which is what dropping or renumbering experts must respect. */
export type ExpertStorage =
  | {
      kind: "per-expert";
      /** Tensors of one expert, as prefix + expert id + suffix. */
      prefix: string;
      suffixes: string[];
    }
  /** Tensors whose first axis is the expert. */
  | {
      kind: "fused";
      tensors: string[];
      /** Where the family has a layout with one tensor a projection too: its names, prefix + expert id + "." + projection. */
      split?: { prefix: string; projections: Record<"gateProj" | "upProj" | "downProj", string> };
      /** Where the family also stores these as MXFP4, in tensors of these names with an ending (gpt-oss); plain now. */
      blocks?: { gateUp: string; down: string };
    };
