import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { readString } from "../config";
import type { ModelDescription } from "../description";
import type { ModelFamily } from "../family";
import { mixtral } from "./mixtral";
import { olmoe } from "./olmoe";
import { qwen2Moe } from "./qwen2Moe";
import { qwen3Moe } from "./qwen3Moe";

/** Supported families by `model_type`. Adding one is one file and one entry here. */
export const families: ReadonlyMap<string, ModelFamily> = new Map(
  [mixtral, olmoe, qwen2Moe, qwen3Moe].map((family) => [family.modelType, family]),
);

/**
 * The family that config.json names.
 * @throws RerouteError `model/unsupported-family` listing the supported ones.
 */
export function familyOf(checkpoint: Checkpoint): ModelFamily {
  const modelType = readString(checkpoint.config, "model_type");
  const family = families.get(modelType ?? "");
  if (family === undefined) {
    const found =
      modelType === null
        ? "config.json has no model_type"
        : `config.json says model_type = "${modelType.slice(0, 80)}"`;
    throw new RerouteError(
      "model/unsupported-family",
      `${found}, expected one of ${[...families.keys()].sort().join(", ")}. Other models can only be inspected`,
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
