/** What a tensor of any decoder checkpoint is for, told from its name alone. */
export interface TensorRole {
  /** Number of the layer; null outside layers. */
  layer: number | null;
  /** Name of the stack that the layer is in, such as "model.layers" or "model.visual.blocks"; empty outside layers. */
  stack: string;
  kind: "router" | "expert" | "shared-expert" | "other";
  /** Number of the expert where tensors are stored per expert. */
  expert: number | null;
}

const layerPattern = /(?:^|\.)(?:layers|layer|blocks|block|resblocks|h)\.(\d{1,6})\./;
const expertPattern = /(?:^|\.)experts\.(?:expert_)?(\d{1,6})\./;
/**
 * Tensors whose first axis is the expert, or whose experts are stacked in another way: MLX calls the stack `switch_mlp`,
 * Step-3 and Granite do not name it.
 */
const fusedPattern =
  /(?:^|\.)(?:experts|switch_mlp|switch_glu)\.|(?:^|\.)moe\.(?:gate|up|down)_proj\.|block_sparse_moe\.(?:input|output)_linear\./;
const sharedPattern = /(?:^|\.)(?:shared_experts?|shared_mlp|share_expert|residual_mlp)(?:\.|_)/;
/** Routers, and what belongs to them alone. Llama's `gate_proj` is no router. */
const routerPattern =
  /(?:^|\.)(?:(?:mlp|moe|moe_block|ffn|mixer|block_sparse_moe|feed_forward)\.(?:gate|router)(?:\.|$)|router\.|e_score_correction_bias|expert_bias$|moe_statics\.)/;

/** Most tensors of most checkpoints, in one look instead of four; what it finds is what the patterns above find. */
const commonPattern =
  /^model\.layers\.(\d{1,6})\.(?:mlp|block_sparse_moe)\.experts\.(\d{1,6})\.(?:(?:gate|up|down)_proj|w[123])\.weight$/;

/**
 * A guess for families without a description, which inspection shows. A shared expert comes first: its gate is part of it
 * and it is never routed.
 */
export function tensorRole(name: string): TensorRole {
  const common = commonPattern.exec(name);
  if (common !== null) {
    return { layer: Number(common[1]), stack: "model.layers", kind: "expert", expert: Number(common[2]) };
  }
  const found = layerPattern.exec(name);
  if (found === null) return { layer: null, stack: "", kind: "other", expert: null };
  const numberText = found[1]!;
  const layer = Number(numberText);
  const stack = name.slice(0, found.index + found[0].length - numberText.length - 2);
  if (sharedPattern.test(name)) return { layer, stack, kind: "shared-expert", expert: null };
  const expertText = expertPattern.exec(name)?.[1];
  if (expertText !== undefined) return { layer, stack, kind: "expert", expert: Number(expertText) };
  if (fusedPattern.test(name)) return { layer, stack, kind: "expert", expert: null };
  return { layer, stack, kind: routerPattern.test(name) ? "router" : "other", expert: null };
}

/**
 * Parts that models have beside their decoder, by the names of their modules: prediction of further tokens, encoders of
 * pictures and sound, and speakers.
 */
const besideDecoder =
  /(?:^|\.)(?:\w*(?:visual|vision|image|video|audio|speech|projector)\w*|mtp\w*|nextn\w*|eagle\w*|vit|vpm|img\w*|apm|whisper\w*|talker|tts|code2wav|token2wav|resampler\w*|perceiver\w*|aligner|encoder)(?:\.|$)/;

/** Whether a name is that of a tensor or a stack of layers beside the decoder. */
export function isBesideDecoder(name: string): boolean {
  return besideDecoder.test(name);
}
