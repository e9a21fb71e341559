import { elementCount } from "../tensor/dtype";
import { decodedNumbers } from "../weights/forms";
import type {
  AttentionDescription,
  ExpertWeights,
  FactoredForm,
  LayerDescription,
  LinearDescription,
  ModelDescription,
  WeightView,
} from "./description";

export interface ParameterCount {
  /** Every stored number that the forward pass reads, tied weights once. */
  total: number;
  /**
   * Those that one token meets: all but the routed experts it is not sent to. The whole embedding table counts, as model
   * cards count it ("30.5B total, 3.3B active").
   */
  active: number;
}

/** Parameters of a model. Scales of quantised tensors are not parameters; tensors of unused parts are not counted. */
export function countParameters(description: ModelDescription): ParameterCount {
  const { embedding, head, finalNorm, layers } = description;
  const outside =
    parametersIn(embedding) +
    parametersIn(finalNorm) +
    parametersIn(head.bias) +
    (head.tied ? 0 : parametersIn(head.weight));
  const all = layers.map(countLayerParameters);
  const sum = (key: keyof ParameterCount) => all.reduce((total, layer) => total + layer[key], outside);
  return { total: sum("total"), active: sum("active") };
}

/** As countParameters, of one layer. */
export function countLayerParameters(layer: LayerDescription): ParameterCount {
  const { feedForward, ...rest } = layer;
  const common = parametersIn(rest);
  if (feedForward.kind === "mlp") {
    const total = common + parametersIn(feedForward.weights);
    return { total, active: total };
  }
  const shared = new Map<string, WeightView>();
  const routed = sumExperts(feedForward.experts, (view) => {
    collectSharedFactors(view, shared);
    return parametersOf(view);
  });
  // Factors of all experts together are met by every token.
  const factors = [...shared.values()].reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const always =
    common + factors + parametersIn(feedForward.router) + parametersIn([feedForward.shared, feedForward.routedNorm]);
  // Several of a token's experts can be one where logical experts share weights; k is then the upper bound.
  const perToken = Math.min(feedForward.numExpertsPerToken, feedForward.numExperts);
  return { total: always + routed, active: always + (routed * perToken) / feedForward.numExperts };
}

/**
 * Floating-point operations of one token's forward pass, two per multiply-add, averaged over the positions of a sequence:
 * 2 for each weight of every matrix the token meets (router, shared and its k routed experts, output head), and for each
 * attention head 2 * (d_qk + d_v) for each position it can see, itself included. Norms, activations, biases, rotations
 * and softmax are left out; they are below 1 % at the sizes of real models.
 */
export function flopsPerToken(description: ModelDescription, sequenceLength: number): number {
  const { head, layers } = description;
  let flops = 2 * multiplyAddsIn(head.weight);
  for (const { attention, feedForward } of layers) {
    flops += 2 * multiplyAddsIn(attention) + attentionFlops(attention, sequenceLength);
    if (feedForward.kind === "mlp") {
      flops += 2 * multiplyAddsIn(feedForward.weights);
    } else {
      const { router, shared, experts, numExperts, numExpertsPerToken } = feedForward;
      const routed = (multiplyAddsIn(experts) * numExpertsPerToken) / numExperts;
      flops += 2 * (multiplyAddsIn(router.weight) + multiplyAddsIn(shared) + routed);
    }
  }
  return flops;
}

/** Scores and their weighted sum of values for one token on average; of the delta rule, what its state takes. */
function attentionFlops(attention: AttentionDescription, sequenceLength: number): number {
  switch (attention.kind) {
    case "short-conv":
      return 0;
    case "gated-delta":
      // Read with the key, change, read with the query.
      return 2 * 3 * attention.numValueHeads * attention.keyHeadDim * attention.valueHeadDim;
    default: {
      const { numHeads, slidingWindow } = attention;
      const [queryKeyDim, valueDim] =
        attention.kind === "latent"
          ? [attention.qkNopeHeadDim + attention.qkRopeHeadDim, attention.vHeadDim]
          : [attention.headDim, attention.valueHeadDim];
      return (
        2 * numHeads * (queryKeyDim + valueDim) * meanVisiblePositions(sequenceLength, slidingWindow, attention.chunk)
      );
    }
  }
}

/** Mean of min(t, window) over t = 1 ... n, or over the positions of a chunk. */
function meanVisiblePositions(n: number, window: number | null, chunk = n): number {
  if (chunk < n) return meanVisiblePositions(chunk, window);
  const w = Math.min(window ?? n, n);
  return ((w * (w + 1)) / 2 + (n - w) * w) / n;
}

/** Parameters of every weight view inside a part of a description. */
export function parametersIn(part: unknown): number {
  return sumViews(part, parametersOf);
}

/**
 * Multiply-adds of one token in every matrix of a part: its parameters, and of a factored one those of the products it
 * runs as. Biases and norms cost nothing worth counting.
 */
function multiplyAddsIn(part: unknown): number {
  return sumViews(part, (view) => {
    if (view.quantisation?.kind === "factored") return factoredMultiplyAdds(view.quantisation.form);
    return view.shape.length > 1 ? parametersOf(view) : 0;
  });
}

/** Numbers that a view stands for; of a factored matrix, the expert's own factors. */
function parametersOf(view: WeightView): number {
  if (view.quantisation?.kind === "factored") {
    return ownFactors(view.quantisation.form).reduce((sum, { shape }) => sum + elementCount(shape), 0);
  }
  return decodedNumbers(view);
}

function ownFactors(form: FactoredForm): WeightView[] {
  switch (form.kind) {
    case "low-rank":
      return [form.left, form.right];
    case "shared-basis":
      return [form.left, form.mixture];
    case "tucker":
      return [form.mixture];
  }
}

/** Factors that an expert's matrix shares with those of other experts, by name. */
function collectSharedFactors({ quantisation }: WeightView, found: Map<string, WeightView>): void {
  if (quantisation?.kind !== "factored") return;
  const { form } = quantisation;
  const shared =
    form.kind === "low-rank"
      ? form.base === null
        ? []
        : [form.base]
      : form.kind === "shared-basis"
        ? [form.bases]
        : [form.left, form.core, form.right];
  for (const view of shared) found.set(view.tensor, view);
}

/** As sumViews over experts, in one walk that knows their parts: there may be 100,000. */
function sumExperts(experts: readonly ExpertWeights[], count: (view: WeightView) => number): number {
  const ofLinear = ({ weight, bias }: LinearDescription) => count(weight) + (bias === null ? 0 : count(bias));
  let sum = 0;
  for (const { constant, gateUp, downProj } of experts) {
    sum += ofLinear(downProj);
    if (constant !== undefined) sum += count(constant);
    sum +=
      gateUp.kind === "separate" ? ofLinear(gateUp.gateProj) + ofLinear(gateUp.upProj) : ofLinear(gateUp.projection);
  }
  return sum;
}

/** One token's products, with mixed bases and cores put together beforehand, which a batch of tokens shares. */
function factoredMultiplyAdds(form: FactoredForm): number {
  const size = ({ shape }: WeightView) => elementCount(shape);
  switch (form.kind) {
    case "low-rank":
      return size(form.left) + size(form.right) + (form.base === null ? 0 : size(form.base));
    case "shared-basis":
      return size(form.left) + size(form.bases) / form.bases.shape[0]!;
    case "tucker":
      return size(form.left) + size(form.core) / form.core.shape[0]! + size(form.right);
  }
}

/** Sums over views without entering them, so that scales are not counted. */
function sumViews(part: unknown, count: (view: WeightView) => number): number {
  if (typeof part !== "object" || part === null) return 0;
  if (isWeightView(part)) return count(part);
  let sum = 0;
  // Neither lists of keys nor of values: a model may have 100,000 views.
  for (const key in part) sum += sumViews((part as Record<string, unknown>)[key], count);
  return sum;
}

export function isWeightView(part: object): part is WeightView {
  return "tensor" in part && "offset" in part && "shape" in part;
}
