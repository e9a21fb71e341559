import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import type { ModelDescription } from "../../model/description";

type Config = Checkpoint["config"];

/** What a teacher without its experts is: a dense family whose layers and names are the teacher's, or its own family. */
export type Sibling =
  | {
      kind: "dense family";
      modelType: string;
      architecture: string;
      /** Keys of config.json that only experts need. */
      drops: readonly string[];
      /** Why a teacher of the family has layers that the sibling cannot have; null where it can. */
      refusal?: (description: ModelDescription, config: Config) => string | null;
      adds?: { [key: string]: unknown };
    }
  /** The family itself has dense layers: what says that all of them are. */
  | { kind: "own family"; says: (layers: number, config: Config) => { [key: string]: unknown } };

const common = ["num_experts_per_tok", "num_experts", "num_local_experts", "output_router_logits"];

/** DeepSeek's way; where a config lists its layers, that list says it. */
const denseFirst: Sibling = {
  kind: "own family",
  says: (layers, config) => ({
    ...(config["mlp_layer_types"] === undefined
      ? { first_k_dense_replace: layers }
      : { mlp_layer_types: Array<string>(layers).fill("dense") }),
    ...(Array.isArray(config["moe_layer_freq"]) ? { moe_layer_freq: Array<number>(layers).fill(0) } : {}),
    // Layers that predict further tokens have experts, too, and stay behind.
    ...(config["num_nextn_predict_layers"] === undefined ? {} : { num_nextn_predict_layers: 0 }),
  }),
};

const siblings: Readonly<Record<string, Sibling>> = {
  ...Object.fromEntries(
    ["deepseek_v2", "deepseek_v3", "dots1", "glm4_moe", "glm4_moe_lite", "mistral4"].map((family) => [
      family,
      denseFirst,
    ]),
  ),
  mixtral: {
    ...{ kind: "dense family", modelType: "mistral", architecture: "MistralForCausalLM" },
    drops: [...common, "router_aux_loss_coef", "router_jitter_noise"],
  },
  qwen3_moe: {
    ...{ kind: "dense family", modelType: "qwen3", architecture: "Qwen3ForCausalLM" },
    drops: [
      ...common,
      ...["decoder_sparse_step", "mlp_only_layers", "moe_intermediate_size", "norm_topk_prob", "router_aux_loss_coef"],
    ],
  },
  granitemoe: {
    ...{ kind: "dense family", modelType: "granite", architecture: "GraniteForCausalLM" },
    drops: [...common, "router_aux_loss_coef"],
  },
  granitemoeshared: {
    ...{ kind: "dense family", modelType: "granite", architecture: "GraniteForCausalLM" },
    drops: [...common, "router_aux_loss_coef", "shared_intermediate_size"],
  },
  qwen2_moe: {
    ...{ kind: "dense family", modelType: "qwen2", architecture: "Qwen2ForCausalLM" },
    drops: [
      ...common,
      ...["decoder_sparse_step", "mlp_only_layers", "moe_intermediate_size", "norm_topk_prob", "router_aux_loss_coef"],
      ...["shared_expert_intermediate_size", "qkv_bias", "sliding_window", "layer_types"],
    ],
    adds: { use_sliding_window: false },
    refusal: ({ layers }, config) =>
      config["qkv_bias"] === false
        ? "its queries, keys and values have no biases, those of qwen2 have"
        : layers.some(({ attention }) => attention.kind === "grouped-query" && attention.slidingWindow !== null)
          ? "layers with a sliding window are others than in qwen2"
          : null,
  },
  hunyuan_v1_moe: {
    ...{ kind: "dense family", modelType: "hunyuan_v1_dense", architecture: "HunYuanDenseV1ForCausalLM" },
    drops: [
      ...common,
      ...["moe_topk", "moe_intermediate_size", "num_shared_expert", "use_mixed_mlp_moe", "moe_layer_num_skipped"],
      "norm_topk_prob",
    ],
  },
  ernie4_5_moe: {
    ...{ kind: "dense family", modelType: "ernie4_5", architecture: "Ernie4_5ForCausalLM" },
    drops: [
      ...common,
      ...["moe_num_experts", "moe_k", "moe_intermediate_size", "moe_num_shared_experts", "moe_layer_start_index"],
      ...[
        "moe_layer_end_index",
        "moe_layer_interval",
        "moe_norm_min",
        "moe_capacity",
        "moe_gate",
        "router_aux_loss_coef",
      ],
    ],
  },
};

/**
 * What a teacher becomes without its experts.
 * @throws RerouteError model/unsupported-option naming the families that a student can be built from
 */
export function siblingOf(description: ModelDescription, config: Config): Sibling {
  const { family } = description;
  const found = siblings[family];
  const reason =
    found === undefined
      ? `There is no dense family whose layers are those of ${quote(family)} without experts`
      : found.kind === "dense family" && found.refusal?.(description, config);
  if (found !== undefined && !reason) return found;
  throw new RerouteError(
    "model/unsupported-option",
    found === undefined
      ? `${String(reason)}; a student can be built from ${Object.keys(siblings).join(", ")}. Distil into an existing dense checkpoint with the same tokenizer instead`
      : `A dense student of this ${family} checkpoint cannot be written: ${String(reason)}. Distil into an existing dense checkpoint with the same tokenizer instead`,
  );
}
