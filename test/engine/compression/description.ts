import type {
  GroupLimit,
  LayerDescription,
  ModelDescription,
  MoeDescription,
} from "../../../src/engine/model/description";

export interface FakeLayer {
  numExperts?: number;
  topK?: number;
  groups?: GroupLimit;
  merged?: number[];
}

/** A description with only what plans look at: layer 0 dense, then one MoE layer per row. */
export function describeLayers(...layers: FakeLayer[]): ModelDescription {
  const moe = layers.map((layer, i) => ({
    index: i + 1,
    feedForward: {
      kind: "moe",
      router: { weight: { tensor: `model.layers.${i + 1}.mlp.gate.weight` } },
      numExperts: layer.numExperts ?? 8,
      numExpertsPerToken: layer.topK ?? 2,
      routing: {
        kind: "sigmoid",
        renormalise: true,
        epsilon: 0,
        scalingFactor: 1,
        groups: layer.groups ?? null,
        useCorrectionBias: false,
      },
      logicalToPhysical: layer.merged ?? null,
    } as unknown as MoeDescription,
  }));
  const dense = { index: 0, feedForward: { kind: "mlp" } };
  return { layers: [dense, ...moe] as unknown as LayerDescription[], unusedTensors: [] } as unknown as ModelDescription;
}
