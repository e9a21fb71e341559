import { RerouteError } from "../../protocol/errors";
import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import { quote } from "../checkpoint/quote";
import { allViewsIn } from "../execution/weightViews";
import { weightKey } from "../graph/blocks/weights";
import type { LayerDescription, ModelDescription, WeightView } from "../model/description";
import { elementCount } from "../tensor/dtype";
import { formName, trainableScales } from "../weights/forms";

/** A weight that a calibration may change. */
export interface TrainableWeight {
  /** Name of its tensor, or name@offset for a slice of a fused one. */
  key: string;
  view: WeightView;
  /** Scales of codes, which stay positive. */
  isScale?: true;
  /** Decoder layer and expert it belongs to; null where it belongs to none. */
  layer: number | null;
  expert: number | null;
}

/**
 * Which weights may change, and no others, in the model's order:
 * - router: the router matrix of every sparse layer
 * - router+scales: and the scales of quantised experts, routed and shared, whose codes stay
 * - router+top-experts: and the experts in `chosen` (layer number -> expert numbers)
 * - router+experts: and all routed experts, with their biases and constants
 * - feed-forward: and shared experts and the MLPs of dense layers; of a dense model those alone
 * - all: and everything else that the forward pass reads: embedding, attention, norms, shared experts, dense layers, router
 *   biases, the vocabulary head. A tied head is the embedding.
 * Never: correction biases, which only select and get no gradient, and tensors that the forward pass does not read.
 *
 * @throws RerouteError checkpoint/unsupported-dtype, model/unsupported-option where the scope reaches a weight that is
 *   stored quantised or factored
 */
export function trainableWeights(
  description: ModelDescription,
  scope: CalibrateOptions["scope"],
  chosen: ReadonlyMap<number, readonly number[]> | null = null,
): TrainableWeight[] {
  const found = new Map<string, TrainableWeight>();
  const add = (part: unknown, layer: number | null = null, expert: number | null = null) => {
    for (const view of allViewsIn(part)) {
      const key = weightKey(view);
      if (found.has(key) || elementCount(view.shape) === 0) continue;
      checkStored(view, scope);
      found.set(key, { key, view, layer, expert });
    }
  };
  const { embedding, layers, finalNorm, head } = description;
  for (const { index, feedForward } of layers) if (feedForward.kind === "moe") add(feedForward.router.weight, index);
  if (scope === "router") return [...found.values()];
  if (scope === "router+scales") {
    for (const weight of scalesOf(layers)) if (!found.has(weight.key)) found.set(weight.key, weight);
    if ([...found.values()].some(({ isScale }) => isScale)) return [...found.values()];
    throw new RerouteError(
      "model/unsupported-option",
      `The scope ${quote(scope)} would change the scales of quantised experts, and this model's have none that can train: ${storedAs(layers)}. ` +
        `Quantise it first (methods rtn, gptq, awq, fp8), or calibrate with another scope`,
    );
  }
  for (const layer of layers) addExperts(layer, scope === "router+top-experts" ? (chosen ?? new Map()) : null, add);
  if (scope === "feed-forward") {
    for (const { index, feedForward } of layers)
      add(feedForward.kind === "mlp" ? feedForward.weights : feedForward.shared?.mlp, index);
  }
  if (scope !== "all") return [...found.values()];
  add(embedding.weight);
  for (const layer of layers) {
    const { index, feedForward } = layer;
    add([layer.inputNorm, layer.attention, layer.attentionOutputNorm, layer.postAttentionNorm], index);
    add([layer.feedForwardOutputNorm, layer.scalar], index);
    if (feedForward.kind === "mlp") add(feedForward.weights, index);
    else {
      const { router, routedNorm, shared } = feedForward;
      add([router.bias, router.input, router.expertScale, routedNorm, shared], index);
    }
  }
  add([finalNorm, head.weight, head.bias]);
  return [...found.values()];
}

function scalesOf(layers: readonly LayerDescription[]): TrainableWeight[] {
  return layers.flatMap(({ index: layer, feedForward }) => {
    if (feedForward.kind !== "moe") return [];
    const of = (part: unknown, expert: number | null) =>
      allViewsIn(part).flatMap((weight): TrainableWeight[] => {
        const view = trainableScales(weight);
        return view === null ? [] : [{ key: weightKey(view), view, layer, expert, isScale: true }];
      });
    return [...feedForward.experts.flatMap((expert, e) => of(expert, e)), ...of(feedForward.shared?.mlp, null)];
  });
}

/** What experts are stored as, for a message. */
function storedAs(layers: readonly LayerDescription[]): string {
  const moe = layers.map(({ feedForward }) => feedForward).find(({ kind }) => kind === "moe");
  const view = moe?.kind === "moe" ? allViewsIn(moe.experts[0])[0] : undefined;
  return view === undefined ? "it has no experts" : `its experts are stored as ${formName(view)}`;
}

function addExperts(
  { index, feedForward }: LayerDescription,
  chosen: ReadonlyMap<number, readonly number[]> | null,
  add: (part: unknown, layer: number, expert: number) => void,
): void {
  if (feedForward.kind !== "moe") return;
  const numbers = chosen === null ? feedForward.experts.keys() : (chosen.get(index) ?? []);
  for (const e of numbers) add(feedForward.experts[e], index, e);
}

const plainDtypes: readonly string[] = ["F32", "F16", "BF16"];

function checkStored(view: WeightView, scope: string): void {
  const { tensor, dtype, quantisation } = view;
  if (quantisation?.kind === "factored") {
    throw new RerouteError(
      "model/unsupported-option",
      `The scope ${quote(scope)} would change ${quote(tensor)}, which is part of a factored weight; calibrate the routers (scope router), or compress with output=dense`,
    );
  }
  if (quantisation === undefined && plainDtypes.includes(dtype)) return;
  throw new RerouteError(
    "checkpoint/unsupported-dtype",
    `The scope ${quote(scope)} would change ${quote(tensor)}, which is stored as ${formName(view)}, expected ${plainDtypes.join(", ")}; calibrate the routers (scope router), or convert the checkpoint to BF16`,
  );
}
