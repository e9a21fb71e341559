import type { ExpertCount } from "./expertCount";
import type { ExpertShape } from "./expertTensors";
import type { GatedActivation, MoeDescription, RoutingDescription, WeightView } from "./description";
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
  /** [logical experts], or [1, logical experts] as ERNIE stores it. */
  correctionBias?: { tensor: string; leadingOne: boolean };
  experts: (shape: ExpertShape) => Pick<MoeDescription, "experts" | "storage">;
  shared?: () => MoeDescription["shared"];
}

/**
 * One MoE block. The router is read first: where a checkpoint was pruned behind its config's back, its message is the
 * clearest.
 */
export function readMoe(weights: Weights, options: MoeOptions): MoeDescription {
  const { count, hiddenSize, intermediateSize } = options;
  const { because } = count;
  const rows = count.numLogicalExperts;
  const router = {
    weight: weights.view(options.router, [rows, hiddenSize], because),
    bias: options.routerBias === undefined ? null : weights.view(options.routerBias, [rows], because),
    correctionBias: readCorrectionBias(weights, options, rows),
  };
  const shape = { numExperts: count.numExperts, hiddenSize, intermediateSize, because };
  return {
    kind: "moe",
    router,
    routing: options.routing,
    numExperts: count.numExperts,
    numExpertsPerToken: count.numExpertsPerToken,
    ...options.experts(shape),
    activation: options.activation,
    intermediateSize,
    shared: options.shared?.() ?? null,
    logicalToPhysical: count.logicalToPhysical,
  };
}

function readCorrectionBias(weights: Weights, options: MoeOptions, rows: number): WeightView | null {
  if (options.correctionBias === undefined) return null;
  const { tensor, leadingOne } = options.correctionBias;
  return weights.slice(weights.entry(tensor, leadingOne ? [1, rows] : [rows], options.count.because), 0, [rows]);
}

/** Softmax over all experts, top-k, then optionally divided by the sum of the selected. */
export function softmaxThenTopK(renormalise: boolean): Extract<RoutingDescription, { kind: "softmax" }> {
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

/** Top-k of the logits, then softmax over the selected ones. */
export const topKThenSoftmax: RoutingDescription = { ...softmaxThenTopK(false), softmax: "after" };

/** `<layer>.block_sparse_moe` as released, or `<layer>.mlp` as transformers 5 names the block in memory. */
export function moeBlockPrefix(weights: Weights, layer: string, router: string): string {
  const released = `${layer}.block_sparse_moe`;
  return !weights.has(`${released}.${router}`) && weights.has(`${layer}.mlp.${router}`) ? `${layer}.mlp` : released;
}
