import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import { readString } from "../config";
import type { ModelDescription } from "../description";
import type { ModelFamily } from "../family";
import { deepseekV2 } from "./deepseekV2";
import { deepseekV3 } from "./deepseekV3";
import { ernie45Moe } from "./ernie45Moe";
import { glm4Moe } from "./glm4Moe";
import { gptOss } from "./gptOss";
import { granitemoe } from "./granitemoe";
import { hunyuanV1Moe } from "./hunyuanV1Moe";
import { lfm2Moe } from "./lfm2Moe";
import { llama4Text } from "./llama4";
import { minimaxM2 } from "./minimaxM2";
import { mixtral } from "./mixtral";
import { olmoe } from "./olmoe";
import { phimoe } from "./phimoe";
import { qwen2Moe } from "./qwen2Moe";
import { qwen3Moe } from "./qwen3Moe";
import { qwen35MoeText, qwen3Next } from "./qwen3Next";

/** Supported families by `model_type`. Adding one is one file and one entry here. */
export const families: ReadonlyMap<string, ModelFamily> = new Map(
  [
    deepseekV2,
    deepseekV3,
    ernie45Moe,
    glm4Moe,
    gptOss,
    granitemoe,
    hunyuanV1Moe,
    lfm2Moe,
    llama4Text,
    minimaxM2,
    mixtral,
    olmoe,
    phimoe,
    qwen2Moe,
    qwen3Moe,
    qwen35MoeText,
    qwen3Next,
  ].map((family) => [family.modelType, family]),
);

/** Other names that config.json gives to a supported family. */
const aliases: ReadonlyMap<string, string> = new Map([["kimi_k2", "deepseek_v3"]]);

/**
 * The family that config.json names.
 * @throws RerouteError `model/unsupported-family` listing the supported ones.
 */
export function familyOf(checkpoint: Checkpoint): ModelFamily {
  const modelType = readString(checkpoint.config, "model_type");
  const family = families.get(aliases.get(modelType ?? "") ?? modelType ?? "");
  if (family === undefined) {
    const found =
      modelType === null ? "config.json has no model_type" : `config.json says model_type = ${quote(modelType)}`;
    throw new RerouteError(
      "model/unsupported-family",
      `${found}, expected one of ${[...families.keys()].join(", ")}. Other models can only be inspected`,
    );
  }
  return family;
}

/**
 * Reads config.json and checks every tensor that it implies, headers only.
 * @throws RerouteError `model/unsupported-family`, `model/unsupported-option`, `model/not-moe`,
 *   `checkpoint/malformed`, `checkpoint/missing-tensor`, `checkpoint/shape-mismatch`, `checkpoint/unsupported-dtype`.
 */
export function describeModel(checkpoint: Checkpoint): { family: ModelFamily; description: ModelDescription } {
  const family = familyOf(checkpoint);
  return { family, description: family.describe(checkpoint) };
}
