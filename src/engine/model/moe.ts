import type { ExpertCount } from "./expertCount";
import { readExperts, type ProjectionNames } from "./expertTensors";
import type { GatedActivation, MoeDescription, RoutingDescription } from "./description";
import type { Weights } from "./weights";

export interface MoeOptions {
  hiddenSize: number;
  intermediateSize: number;
  activation: GatedActivation;
  count: ExpertCount;
  routing: RoutingDescription;
  /** Tensor of the router's weight [logical experts, hidden]. */
  router: string;
  routerBias?: string;
  correctionBias?: { tensor: string; shape: readonly number[] };
  /** Under which the experts' tensors are. */
  experts: string;
  names: ProjectionNames;
  shared?: MoeDescription["shared"];
}

/** An MoE block whose experts are plain gated MLPs, stored per expert or fused. */
export function readMoe(weights: Weights, options: MoeOptions): MoeDescription {
  const { count, hiddenSize, intermediateSize } = options;
  const { because } = count;
  const rows = count.numLogicalExperts;
  // The router first: where a checkpoint was pruned behind its config's back, its message is the clearest.
  const router = {
    weight: weights.view(options.router, [rows, hiddenSize], because),
    bias: options.routerBias === undefined ? null : weights.view(options.routerBias, [rows], because),
    correctionBias: options.correctionBias
      ? weights.view(options.correctionBias.tensor, options.correctionBias.shape, because)
      : null,
  };
  const shape = { numExperts: count.numExperts, hiddenSize, intermediateSize, because };
  return {
    kind: "moe",
    router,
    routing: options.routing,
    numExperts: count.numExperts,
    numExpertsPerToken: count.numExpertsPerToken,
    ...readExperts(weights, options.experts, options.names, shape),
    activation: options.activation,
    intermediateSize,
    shared: options.shared ?? null,
    logicalToPhysical: count.logicalToPhysical,
  };
}

/** Softmax over all experts, top-k, then optionally divided by the sum of the selected. */
export function softmaxThenTopK(renormalise: boolean): RoutingDescription {
  return {
    kind: "softmax",
    softmax: "before",
    renormalise,
    epsilon: 0,
    epsilonMode: "add",
    scalingFactor: 1,
    groups: null,
    useCorrectionBias: false,
  };
}

/** `<layer>.block_sparse_moe` as released, or `<layer>.mlp` as transformers 5 names the block in memory. */
export function moeBlockPrefix(weights: Weights, layer: string, router: string): string {
  const released = `${layer}.block_sparse_moe`;
  return !weights.has(`${released}.${router}`) && weights.has(`${layer}.mlp.${router}`) ? `${layer}.mlp` : released;
}
