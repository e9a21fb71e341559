import { elementCount } from "../tensor/dtype";
import type { ExpertWeights, LinearDescription, ModelDescription, WeightView } from "./description";
import { moeLayers } from "./moeLayers";

/**
 * The model with the products of its routed experts in 8-bit integers: for passes that are only looked at. Weights
 * stored as integers already, and everything that is no routed expert, stay as they are.
 */
export function withPreviewProducts<M extends { description: ModelDescription }>(model: M): M {
  const layers = model.description.layers.map((layer) =>
    layer.feedForward.kind === "moe"
      ? { ...layer, feedForward: { ...layer.feedForward, experts: layer.feedForward.experts.map(withInt8Products) } }
      : layer,
  );
  return { ...model, description: { ...model.description, layers } };
}

/** Bytes of the codes and scales of a layer's experts, the largest layer's; 0 for a model whose products are exact. */
export function previewBytes(description: ModelDescription): number {
  const ofLayers = moeLayers(description).map(({ moe }) =>
    moe.experts
      .flatMap(int8Linears)
      .reduce((sum, { weight: { shape } }) => sum + elementCount(shape) + 4 * shape[0]!, 0),
  );
  return Math.max(0, ...ofLayers);
}

/** Projections of an expert whose products are computed in integers. */
export function int8Linears(expert: ExpertWeights): LinearDescription[] {
  return linears(expert).filter(({ weight }) => weight.product === "int8");
}

function linears({ constant, gateUp, downProj }: ExpertWeights): LinearDescription[] {
  if (constant !== undefined) return [];
  return [...(gateUp.kind === "separate" ? [gateUp.gateProj, gateUp.upProj] : [gateUp.projection]), downProj];
}

function withInt8Products(expert: ExpertWeights): ExpertWeights {
  if (expert.constant !== undefined) return expert;
  const { gateUp, downProj } = expert;
  return {
    gateUp:
      gateUp.kind === "separate"
        ? { ...gateUp, gateProj: rounded(gateUp.gateProj), upProj: rounded(gateUp.upProj) }
        : { ...gateUp, projection: rounded(gateUp.projection) },
    downProj: rounded(downProj),
  };
}

function rounded(linear: LinearDescription): LinearDescription {
  const weight: WeightView = { ...linear.weight, product: "int8" };
  return linear.weight.quantisation === undefined ? { ...linear, weight } : linear;
}
