import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import { readObject, readString, readStringList, type Config } from "../config";
import type { ModelDescription } from "../description";
import type { ModelFamily } from "../family";
import { textTowerOf } from "../textTower";
import { afmoe } from "./afmoe";
import { cohere2Moe } from "./cohere2Moe";
import { gemma2, gemma3Text } from "./denseGemma";
import { ernie45, glm4, granite, hunyuanV1Dense, llama, mistral, olmo2, phi3, qwen2, qwen3 } from "./denseLlama";
import { deepseekV2 } from "./deepseekV2";
import { deepseekV3 } from "./deepseekV3";
import { deepseekV32 } from "./deepseekV32";
import { dots1 } from "./dots1";
import { ernie45Moe } from "./ernie45Moe";
import { exaoneMoe } from "./exaoneMoe";
import { flexOlmo } from "./flexOlmo";
import { gemma4, gemma4Text } from "./gemma4";
import { glm4Moe } from "./glm4Moe";
import { glm4MoeLite } from "./glm4MoeLite";
import { gptOss } from "./gptOss";
import { granitemoe } from "./granitemoe";
import { granitemoeshared } from "./granitemoeshared";
import { hunyuanV1Moe } from "./hunyuanV1Moe";
import { hyV3 } from "./hyV3";
import { lfm2Moe } from "./lfm2Moe";
import { llama4, llama4Text } from "./llama4";
import { mimoV2Flash } from "./mimoV2Flash";
import { minimaxM2 } from "./minimaxM2";
import { minimaxM3 } from "./minimaxM3";
import { mistral4 } from "./mistral4";
import { mixtral } from "./mixtral";
import { olmoe } from "./olmoe";
import { phimoe } from "./phimoe";
import { qwen2Moe } from "./qwen2Moe";
import { qwen3Moe } from "./qwen3Moe";
import { qwen35Moe, qwen35MoeText, qwen3Next } from "./qwen3Next";
import { qwen3VlMoe } from "./qwen3VlMoe";
import { solarOpen } from "./solarOpen";

/** Supported MoE families by `model_type`. Adding one is one file and one entry here. */
export const families: ReadonlyMap<string, ModelFamily> = new Map(
  [
    afmoe,
    cohere2Moe,
    deepseekV2,
    deepseekV3,
    deepseekV32,
    dots1,
    ernie45Moe,
    exaoneMoe,
    flexOlmo,
    gemma4,
    gemma4Text,
    glm4Moe,
    glm4MoeLite,
    gptOss,
    granitemoe,
    granitemoeshared,
    hunyuanV1Moe,
    hyV3,
    lfm2Moe,
    llama4,
    llama4Text,
    mimoV2Flash,
    minimaxM2,
    minimaxM3,
    mistral4,
    mixtral,
    olmoe,
    phimoe,
    qwen2Moe,
    qwen3Moe,
    qwen35Moe,
    qwen35MoeText,
    qwen3Next,
    qwen3VlMoe,
    solarOpen,
  ].map((family) => [family.modelType, family]),
);

/** Dense families, which are inspected and evaluated, by `model_type`. */
export const denseFamilies: ReadonlyMap<string, ModelFamily> = new Map(
  [ernie45, gemma2, gemma3Text, glm4, granite, hunyuanV1Dense, llama, mistral, olmo2, phi3, qwen2, qwen3].map(
    (family) => [family.modelType, family],
  ),
);

/** Other names that config.json gives to a supported family. */
const aliases: ReadonlyMap<string, string> = new Map([
  ["kimi_k2", "deepseek_v3"],
  ["qwen3_vl_moe_text", "qwen3_vl_moe"],
  ["minimax_m3_vl", "minimax_m3_vl_text"],
]);

/**
 * The family of a checkpoint: by model_type; where no row has that, by `architectures`, which is what other loaders go by
 * (Kimi-K2 calls itself kimi_k2 and is a DeepseekV3ForCausalLM); and where a multimodal model has no row, that of its
 * `text_config` (Mistral-Small-4 is a mistral3 around a mistral4).
 * @throws RerouteError `model/unsupported-family` listing the supported ones.
 */
export function familyOf(checkpoint: Checkpoint): ModelFamily {
  const { config } = checkpoint;
  const modelType = readString(config, "model_type");
  const text = modelType === null ? null : readObject(config, "text_config");
  const family = namedFamily(config) ?? (text === null ? null : namedFamily(text));
  if (family !== null) return text === null ? family : textTowerOf(family, family.modelType);
  const found =
    modelType === null ? "config.json has no model_type" : `config.json says model_type = ${quote(modelType)}`;
  throw new RerouteError(
    "model/unsupported-family",
    `${found}, expected one of ${[...families.keys(), ...denseFamilies.keys()].join(", ")}. Other models can only be inspected`,
  );
}

function namedFamily(config: Config): ModelFamily | null {
  const modelType = readString(config, "model_type");
  if (modelType === null) return null;
  const name = aliases.get(modelType) ?? modelType;
  const known = families.get(name) ?? denseFamilies.get(name);
  if (known !== undefined) return known;
  const architectures = readStringList(config, "architectures") ?? [];
  return (
    [...families.values(), ...denseFamilies.values()].find(({ about }) =>
      about.architectures.some((one) => architectures.includes(one)),
    ) ?? null
  );
}

/**
 * Reads config.json and checks every tensor that it implies, headers only.
 * @throws RerouteError `model/unsupported-family`, `model/unsupported-option`, `checkpoint/malformed`, `checkpoint/missing-tensor`, `checkpoint/shape-mismatch`, `checkpoint/unsupported-dtype`.
 */
export function describeModel(checkpoint: Checkpoint): { family: ModelFamily; description: ModelDescription } {
  const family = familyOf(checkpoint);
  return { family, description: family.describe(checkpoint) };
}
