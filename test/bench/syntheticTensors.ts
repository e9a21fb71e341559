/** Tensors of the parts that synthetic models are made of. */

export interface SyntheticShape {
  hiddenSize: number;
  numLayers: number;
  numExperts: number;
  numExpertsPerToken: number;
  /** Width of one routed expert. */
  moeIntermediateSize: number;
  vocabSize: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  /** Width of the shared expert (qwen2_moe). */
  sharedIntermediateSize: number;
  tieWordEmbeddings: boolean;
  maxPositionEmbeddings: number;
}

/** A tensor and how to fill it: norms are ones. */
export interface SyntheticTensor {
  name: string;
  shape: number[];
  fill: "ones" | "weights";
}

/** What three projections of a gated feed-forward part are called. */
export type ProjectionNames = [gateProj: string, upProj: string, downProj: string];
export const llamaProjections: ProjectionNames = ["gate_proj", "up_proj", "down_proj"];
export const mixtralProjections: ProjectionNames = ["w1", "w3", "w2"];

/** Embedding, `block` with its norms for each layer, last norm and head. */
export function decoder(
  shape: SyntheticShape,
  block: (layer: string, index: number) => SyntheticTensor[],
  norms: readonly string[] = ["input_layernorm", "post_attention_layernorm"],
): SyntheticTensor[] {
  const { hiddenSize, vocabSize, numLayers, tieWordEmbeddings } = shape;
  return [
    weight("model.embed_tokens.weight", vocabSize, hiddenSize),
    ...Array.from({ length: numLayers }, (_, i) => {
      const layer = `model.layers.${i}`;
      return [...block(layer, i), ...norms.map((name) => ones(`${layer}.${name}.weight`, hiddenSize))];
    }).flat(),
    ones("model.norm.weight", hiddenSize),
    ...(tieWordEmbeddings ? [] : [weight("lm_head.weight", vocabSize, hiddenSize)]),
  ];
}

/** Grouped-query attention under `self_attn`. */
export function attention(
  layer: string,
  shape: SyntheticShape,
  options: { headNorms?: boolean; projectionNorms?: boolean; biases?: boolean },
): SyntheticTensor[] {
  const { hiddenSize, numHeads, numKeyValueHeads, headDim } = shape;
  const prefix = `${layer}.self_attn`;
  const queries = numHeads * headDim;
  const keys = numKeyValueHeads * headDim;
  const projections = [
    ["q_proj", queries],
    ["k_proj", keys],
    ["v_proj", keys],
  ] as const;
  return [
    ...projections.map(([name, out]) => weight(`${prefix}.${name}.weight`, out, hiddenSize)),
    ...(options.biases ? projections.map(([name, out]) => weight(`${prefix}.${name}.bias`, out)) : []),
    weight(`${prefix}.o_proj.weight`, hiddenSize, queries),
    ...(options.headNorms ? [ones(`${prefix}.q_norm.weight`, headDim), ones(`${prefix}.k_norm.weight`, headDim)] : []),
    ...(options.projectionNorms
      ? [ones(`${prefix}.q_norm.weight`, queries), ones(`${prefix}.k_norm.weight`, keys)]
      : []),
  ];
}

/** Latent attention with the sizes of DeepSeek-V3 in proportion: compressed queries and keys, half as many rotated dimensions. */
export function latentSizes({ hiddenSize, headDim }: SyntheticShape) {
  return {
    q_lora_rank: Math.round(hiddenSize * 0.375),
    kv_lora_rank: hiddenSize / 4,
    qk_nope_head_dim: headDim,
    qk_rope_head_dim: headDim / 2,
    v_head_dim: headDim,
  };
}

/** Queries and keys compressed as in DeepSeek, in the sizes of `latentSizes`. */
export function latentAttention(layer: string, shape: SyntheticShape): SyntheticTensor[] {
  const { hiddenSize, numHeads } = shape;
  const { q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim } = latentSizes(shape);
  const prefix = `${layer}.self_attn`;
  return [
    weight(`${prefix}.q_a_proj.weight`, q_lora_rank, hiddenSize),
    ones(`${prefix}.q_a_layernorm.weight`, q_lora_rank),
    weight(`${prefix}.q_b_proj.weight`, numHeads * (qk_nope_head_dim + qk_rope_head_dim), q_lora_rank),
    weight(`${prefix}.kv_a_proj_with_mqa.weight`, kv_lora_rank + qk_rope_head_dim, hiddenSize),
    ones(`${prefix}.kv_a_layernorm.weight`, kv_lora_rank),
    weight(`${prefix}.kv_b_proj.weight`, numHeads * (qk_nope_head_dim + v_head_dim), kv_lora_rank),
    weight(`${prefix}.o_proj.weight`, hiddenSize, numHeads * v_head_dim),
  ];
}

/** Routed experts and one shared one under `mlp`, as DeepSeek, GLM and ERNIE name them. */
export function deepseekExperts(layer: string, shape: SyntheticShape): SyntheticTensor[] {
  return [
    ...experts(`${layer}.mlp`, shape, llamaProjections),
    ...gatedMlp(`${layer}.mlp.shared_experts`, shape.hiddenSize, shape.moeIntermediateSize, llamaProjections),
  ];
}

/** A router and `numExperts` experts under `prefix`. */
export function experts(
  prefix: string,
  shape: SyntheticShape,
  names: ProjectionNames,
  router = "gate.weight",
): SyntheticTensor[] {
  return [
    weight(`${prefix}.${router}`, shape.numExperts, shape.hiddenSize),
    ...Array.from({ length: shape.numExperts }, (_, e) =>
      gatedMlp(`${prefix}.experts.${e}`, shape.hiddenSize, shape.moeIntermediateSize, names),
    ).flat(),
  ];
}

/** Three projections from `hidden` to `width` and back. */
export function gatedMlp(prefix: string, hidden: number, width: number, names: ProjectionNames): SyntheticTensor[] {
  const [gateProj, upProj, downProj] = names;
  return [
    weight(`${prefix}.${gateProj}.weight`, width, hidden),
    weight(`${prefix}.${upProj}.weight`, width, hidden),
    weight(`${prefix}.${downProj}.weight`, hidden, width),
  ];
}

/** A tensor filled with random numbers. */
export function weight(name: string, ...shape: number[]): SyntheticTensor {
  return { name, shape, fill: "weights" };
}

/** A norm. */
export function ones(name: string, size: number): SyntheticTensor {
  return { name, shape: [size], fill: "ones" };
}
