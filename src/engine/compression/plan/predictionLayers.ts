import type { ModelDescription, MoeDescription } from "../../model/description";
import type { ModelFamily } from "../../model/family";
import { moeLayers } from "./moeLayers";

/**
 * A layer that predicts further tokens (multi-token prediction: DeepSeek-V3, GLM-4-MoE). It is stored behind the last
 * decoder layer, with the same names; transformers leaves it out, vLLM and SGLang load it for speculative decoding and
 * give it as many experts as config.json says. So it must lose as many experts as the others.
 */
export interface PredictionLayer {
  layer: number;
  /**
   * The last sparse decoder layer, whose kept ids the prediction layer takes over where a plan says nothing about it: it
   * was not profiled, it was trained on that layer's outputs, and those ids leave its routing groups equal.
   */
  like: number;
  /** That layer's description with the tensor names of this one. */
  moe: MoeDescription;
}

/** Prediction layers that have a router; ascending. */
export function predictionLayers(description: ModelDescription): PredictionLayer[] {
  const last = moeLayers(description).at(-1);
  if (!last) return [];
  const names = new Set(description.unusedTensors);
  const layers = prefixOfLayers(last.moe);
  const numbers = new Set(
    description.unusedTensors.flatMap((name) => {
      const number = name.startsWith(layers) ? Number(/^\d{1,6}(?=\.)/.exec(name.slice(layers.length))?.[0] ?? -1) : -1;
      return number >= description.layers.length ? [number] : [];
    }),
  );
  return [...numbers]
    .sort((a, b) => a - b)
    .map((layer) => ({ layer, like: last.layer, moe: renamed(last.moe, last.layer, layer) }))
    .filter(({ moe }) => names.has(moe.router.weight.tensor));
}

/**
 * What becomes of layers that no calibration text reaches.
 * @param what what such a layer keeps, in words that the layer it follows ends
 */
export function predictionNotes(description: ModelDescription, what = "the same expert ids as"): string[] {
  return predictionLayers(description).map(
    ({ layer, like }) =>
      `layer ${layer} predicts further tokens and is not part of the forward pass: it keeps ${what} layer ${like}`,
  );
}

/** Names of a layer's tensors with one entry per expert, and the axis they have it on. */
export function slicedTensors(family: ModelFamily, layer: number, moe: MoeDescription): Map<string, number> {
  const { router, storage } = moe;
  const onFirstAxis = [
    router.weight.tensor,
    ...(router.bias ? [router.bias.tensor] : []),
    ...(storage.kind === "fused" ? storage.tensors : []),
  ];
  return new Map([
    ...onFirstAxis.map((name): [string, number] => [name, 0]),
    ...family.perExpertTensors(layer).map(({ name, axis }): [string, number] => [name, axis]),
  ]);
}

function renamed(moe: MoeDescription, from: number, to: number): MoeDescription {
  const layers = prefixOfLayers(moe);
  const rename = (name: string): string => name.replace(`${layers}${from}.`, `${layers}${to}.`);
  const view = <V extends { tensor: string } | null>(found: V): V =>
    found && { ...found, tensor: rename(found.tensor) };
  const { router, storage } = moe;
  return {
    ...moe,
    router: { weight: view(router.weight), bias: view(router.bias), correctionBias: view(router.correctionBias) },
    storage:
      storage.kind === "fused"
        ? { kind: "fused", tensors: storage.tensors.map(rename) }
        : { ...storage, prefix: rename(storage.prefix) },
  };
}

/** "model.layers.", or what stands before a layer's number inside a multimodal checkpoint. */
function prefixOfLayers({ router }: MoeDescription): string {
  return /^.*?layers\.(?=\d)/.exec(router.weight.tensor)?.[0] ?? "model.layers.";
}
