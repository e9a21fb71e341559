import type { Checkpoint } from "../checkpoint/checkpoint";
import { readObject, type Config } from "./config";
import type { FamilyAbout, JsonObject, ModelFamily } from "./family";

/** Where the text model's tensors are: names of a plain text model begin with "model." and "lm_head.". */
export interface Root {
  body: string;
  head: string;
}

const plain: Root = { body: "model.", head: "lm_head." };

/** Every prefix in use, plain first. */
export const roots: readonly Root[] = [
  plain,
  { body: "model.language_model.", head: "lm_head." },
  { body: "language_model.model.", head: "language_model.lm_head." },
];

/** The root under which a checkpoint has decoder layers; plain where it has none. */
export function rootOf(tensors: Checkpoint["tensors"]): Root {
  for (const name of tensors.keys()) {
    const root = roots.find(({ body }) => name.startsWith(`${body}layers.`));
    if (root === undefined) continue;
    // Older wrappers keep the head outside of the text model.
    return root !== plain && tensors.has("lm_head.weight") ? { ...root, head: plain.head } : root;
  }
  return plain;
}

/** A tensor's name in the checkpoint, from that in a plain text model. */
export function storedName({ body, head }: Root, name: string): string {
  if (body === plain.body && head === plain.head) return name;
  if (name.startsWith(plain.body)) return body + name.slice(plain.body.length);
  return name.startsWith(plain.head) ? head + name.slice(plain.head.length) : name;
}

/** Keys of the outer config.json that are about the text model too. */
const outerKeys = [
  ...["quantization_config", "tie_word_embeddings", "reroute_factored", "reroute_constant_experts"],
  ...["expert_id_mapping", "logical_num_experts", "physical_num_experts"],
  ...["reroute_expert_widths", "reroute_num_experts"],
];

/** The config of the text model inside that of a multimodal one; the config itself where there is no other. */
export function textConfig(config: Config): Config {
  const text = readObject(config, "text_config");
  if (text === null) return config;
  const outer = outerKeys.filter((key) => Object.hasOwn(config, key) && config[key] !== null);
  return { ...text, ...Object.fromEntries(outer.map((key) => [key, config[key]])) };
}

/** Changes the text model's part of a config. */
export function editTextConfig(config: JsonObject, edit: (text: JsonObject) => JsonObject): JsonObject {
  const text = config["text_config"];
  if (typeof text !== "object" || text === null || Array.isArray(text)) return edit(config);
  return { ...config, text_config: edit(text as JsonObject) };
}

/**
 * A text family inside a multimodal checkpoint: its tensors carry a prefix, and config.json nests its own under
 * `text_config`. Vision and audio parts are tensors that the forward pass does not use, so they keep their bytes.
 */
export function textTowerOf(text: ModelFamily, modelType: string, about: FamilyAbout = text.about): ModelFamily {
  return {
    modelType,
    about,
    isDense: text.isDense ?? false,
    describe: (checkpoint) => ({
      ...text.describe({ ...checkpoint, config: textConfig(checkpoint.config) }),
      family: modelType,
    }),
    withNumExperts: (config, numExperts) => editTextConfig(config, (own) => text.withNumExperts(own, numExperts)),
    withExpertWidth: (config, width) => editTextConfig(config, (own) => text.withExpertWidth(own, width)),
    perExpertTensors: text.perExpertTensors,
  };
}
