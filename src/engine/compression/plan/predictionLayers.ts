import type { ExpertStorage, ModelDescription, MoeDescription } from "../../model/description";
import type { ModelFamily } from "../../model/family";
import { moeLayers } from "../../model/moeLayers";

/**
 * A layer that predicts further tokens (multi-token prediction). It is stored behind the last decoder layer, with the same
 * names (DeepSeek-V3, GLM-4-MoE), or in a stack of its own, `mtp.layers.` (Qwen3-Next, Qwen3.5); transformers leaves it
 * out, vLLM and SGLang load it for speculative decoding and give it as many experts as config.json says. So it must lose as
 * many experts as the others.
 */
export interface PredictionLayer {
  /** Its number in a plan; those of a stack of its own count on behind the decoder's. */
  layer: number;
  /** What it is called in messages. */
  name: string;
  /**
   * The last sparse decoder layer, whose kept ids the prediction layer takes over where a plan says nothing about it: it
   * was not profiled, it was trained on that layer's outputs, and those ids leave its routing groups equal.
   */
  like: number;
  /** That layer's description with the tensor names of this one. */
  moe: MoeDescription;
  /** A tensor's name here, from that in the layer `like`. */
  rename: (name: string) => string;
}

/** Prediction layers that have a router; ascending. */
export function predictionLayers(description: ModelDescription): PredictionLayer[] {
  const last = moeLayers(description).at(-1);
  if (!last) return [];
  const names = new Set(description.unusedTensors);
  const layers = prefixOfLayers(last.moe);
  const found = new Map<string, PredictionLayer>();
  for (const tensor of names) {
    const place = placeOf(tensor, layers, description.layers.length);
    if (place === null || found.has(place.prefix)) continue;
    const { layer, name, prefix } = place;
    const from = `${layers}${last.layer}.`;
    const rename = (one: string) => (one.startsWith(from) ? prefix + one.slice(from.length) : one);
    found.set(prefix, { layer, name, like: last.layer, moe: renamed(last.moe, rename, names), rename });
  }
  return [...found.values()].filter(({ moe }) => names.has(moe.router.weight.tensor)).sort((a, b) => a.layer - b.layer);
}

/** The prediction layer that a tensor belongs to; null where it is another's. */
function placeOf(
  tensor: string,
  layers: string,
  numLayers: number,
): { layer: number; name: string; prefix: string } | null {
  const behind = tensor.startsWith(layers) ? /^\d{1,6}(?=\.)/.exec(tensor.slice(layers.length))?.[0] : undefined;
  if (behind !== undefined) {
    return Number(behind) < numLayers
      ? null
      : { layer: Number(behind), name: `layer ${behind}`, prefix: `${layers}${behind}.` };
  }
  const own = /^(?:.*\.)?mtp\.layers\.(\d{1,6})(?=\.)/.exec(tensor);
  return own && { layer: numLayers + Number(own[1]), name: own[0], prefix: `${own[0]}.` };
}

/**
 * What becomes of layers that no calibration text reaches.
 * @param what what such a layer keeps, in words that the layer it follows ends
 */
export function predictionNotes(description: ModelDescription, what = "the same expert ids as"): string[] {
  return predictionLayers(description).map(
    ({ name, like }) =>
      `${name} predicts further tokens and is not part of the forward pass: it keeps ${what} layer ${like}`,
  );
}

/**
 * Names of a layer's tensors with one entry per expert, and the axis they have it on.
 * @param layer number of the decoder layer whose names the family knows, which `rename` makes into those of this one
 */
export function slicedTensors(
  family: ModelFamily,
  layer: number,
  moe: MoeDescription,
  rename: (name: string) => string = (name) => name,
): Map<string, number> {
  const { router, storage } = moe;
  const onFirstAxis = [
    router.weight.tensor,
    ...(router.bias ? [router.bias.tensor] : []),
    ...(storage.kind === "fused" ? storage.tensors : []),
  ];
  return new Map([
    ...onFirstAxis.map((name): [string, number] => [name, 0]),
    ...family.perExpertTensors(layer).map(({ name, axis }): [string, number] => [rename(name), axis]),
  ]);
}

function renamed(moe: MoeDescription, rename: (name: string) => string, names: ReadonlySet<string>): MoeDescription {
  const view = <V extends { tensor: string } | null>(found: V): V =>
    found && { ...found, tensor: rename(found.tensor) };
  const { router } = moe;
  return {
    ...moe,
    router: { weight: view(router.weight), bias: view(router.bias), correctionBias: view(router.correctionBias) },
    storage: storageOf(moe.storage, rename, names),
  };
}

/** How the experts are stored: as the decoder's, or in the other layout (Qwen3.5 has both in use). */
function storageOf(like: ExpertStorage, rename: (name: string) => string, names: ReadonlySet<string>): ExpertStorage {
  const experts = like.kind === "fused" ? /^.*\.experts\./.exec(like.tensors[0]!)?.[0] : like.prefix;
  if (experts === undefined && like.kind === "fused") return { kind: "fused", tensors: like.tensors.map(rename) };
  const prefix = rename(experts!);
  const own = [...names].filter((name) => name.startsWith(prefix));
  const isFused = own.length > 0 && !own.some((name) => /^\d/.test(name.slice(prefix.length)));
  if (isFused) return { kind: "fused", tensors: own };
  return { kind: "per-expert", prefix, suffixes: like.kind === "per-expert" ? like.suffixes : [] };
}

/** "model.layers.", or what stands before a layer's number inside a multimodal checkpoint. */
function prefixOfLayers({ router }: MoeDescription): string {
  return /^.*?layers\.(?=\d)/.exec(router.weight.tensor)?.[0] ?? "model.layers.";
}
