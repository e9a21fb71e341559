/** What a tensor of any decoder checkpoint is for, told from its name alone. */
export interface TensorRole {
  /** Decoder layer number; null outside layers. */
  layer: number | null;
  kind: "router" | "expert" | "shared-expert" | "other";
  /** Number of the expert where tensors are stored per expert. */
  expert: number | null;
}

const layerPattern = /(?:^|\.)(?:layers|layer|blocks|block|h)\.(\d{1,6})\./;
const expertPattern = /(?:^|\.)experts\.(\d{1,6})\./;
/** Tensors whose first axis is the expert; Granite's names do not say so. */
const fusedPattern = /(?:^|\.)experts\.|block_sparse_moe\.(?:input|output)_linear\./;
const sharedPattern = /(?:^|\.)(?:shared_experts?|shared_mlp|share_expert|residual_mlp)(?:\.|_)/;
/** Routers, and what belongs to them alone. Llama's `gate_proj` is no router. */
const routerPattern =
  /(?:^|\.)(?:(?:mlp|moe|ffn|block_sparse_moe|feed_forward)\.(?:gate|router)(?:\.|$)|router\.|e_score_correction_bias|expert_bias$|moe_statics\.)/;

/** Most tensors of most checkpoints, in one look instead of four; what it finds is what the patterns above find. */
const commonPattern =
  /^model\.layers\.(\d{1,6})\.(?:mlp|block_sparse_moe)\.experts\.(\d{1,6})\.(?:(?:gate|up|down)_proj|w[123])\.weight$/;

/**
 * A guess for families without a description, which inspection shows. A shared expert comes first: its gate is part of it
 * and it is never routed.
 */
export function tensorRole(name: string): TensorRole {
  const common = commonPattern.exec(name);
  if (common !== null) return { layer: Number(common[1]), kind: "expert", expert: Number(common[2]) };
  const layerText = layerPattern.exec(name)?.[1];
  const layer = layerText === undefined ? null : Number(layerText);
  if (layer === null) return { layer, kind: "other", expert: null };
  if (sharedPattern.test(name)) return { layer, kind: "shared-expert", expert: null };
  const expertText = expertPattern.exec(name)?.[1];
  if (expertText !== undefined) return { layer, kind: "expert", expert: Number(expertText) };
  if (fusedPattern.test(name)) return { layer, kind: "expert", expert: null };
  return { layer, kind: routerPattern.test(name) ? "router" : "other", expert: null };
}
