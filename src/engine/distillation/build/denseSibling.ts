import type { DenseLayerPlan } from "../../../protocol/denseStudent";
import { siblingOf, type Sibling } from "./siblings";
import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { readFloat32 } from "../../checkpoint/read";
import { copyTensor, tensorFromBytes, type ByteSource, type TensorSource } from "../../checkpoint/tensorSource";
import { allViewsIn } from "../../execution/weightViews";
import type { ExpertWeights, LayerDescription, ModelDescription, WeightView } from "../../model/description";
import { dtypeBits, elementCount } from "../../tensor/dtype";
import { encodeFloats, type WritableFloat } from "../../tensor/floatCodec";

/** A dense student before it is written: what its folder will hold. */
export interface DenseStudent {
  config: { [key: string]: unknown };
  tensors: TensorSource[];
  /** Of every layer's MLP: narrower ones are filled up with units that give 0. */
  intermediateSize: number;
}

/**
 * The teacher with each sparse layer's experts replaced by one MLP: the chosen experts side by side, gate and up projections
 * stacked, down projections times their scales, then the shared experts as they are; sum_e scale_e f_e(x) exactly. Everything
 * else keeps its bytes.
 *
 * @throws RerouteError model/unsupported-option for a family without a dense sibling, quantised or joined experts, biases
 */
export function denseStudent(
  { checkpoint, description }: { checkpoint: Checkpoint; description: ModelDescription },
  plans: ReadonlyMap<number, DenseLayerPlan>,
): DenseStudent {
  const sibling = siblingOf(description, checkpoint.config);
  const layers = description.layers.map((layer) => ({ layer, parts: partsOf(layer, plans.get(layer.index)) }));
  const widths = layers.map(({ parts }) => parts.reduce((sum, { units }) => sum + units, 0));
  const intermediateSize = Math.max(...widths);
  const { embedding, finalNorm, head, hiddenSize } = description;
  const kept = new Set(
    [
      ...allViewsIn([embedding.weight, finalNorm, head]),
      ...description.layers.flatMap(({ inputNorm, attention, attentionOutputNorm, postAttentionNorm }) =>
        allViewsIn([inputNorm, attention, attentionOutputNorm, postAttentionNorm]),
      ),
      ...description.layers.flatMap(({ feedForwardOutputNorm }) => allViewsIn(feedForwardOutputNorm)),
    ].map(({ tensor }) => tensor),
  );
  const tensors = [...checkpoint.tensors.values()]
    .filter(({ name }) => kept.has(name))
    .map((entry) => copyTensor(entry));
  layers.forEach(({ layer, parts }, i) => {
    const fill = intermediateSize - widths[i]!;
    tensors.push(...mlpTensors(checkpoint, layerName(layer), parts, { fill, hiddenSize, intermediateSize }));
  });
  return {
    config: siblingConfig(checkpoint.config, description, sibling, intermediateSize),
    tensors,
    intermediateSize,
  };
}

/** A feed-forward network of a layer's new MLP, and what its output is multiplied by. */
interface Part {
  weights: ExpertWeights;
  units: number;
  scale: number;
}

function partsOf({ feedForward, index }: LayerDescription, plan: DenseLayerPlan | undefined): Part[] {
  if (feedForward.kind === "mlp")
    return [{ weights: feedForward.weights, units: feedForward.intermediateSize, scale: 1 }];
  if (plan === undefined) throw new Error(`layer ${index} has experts, but no plan`);
  const { experts, intermediateSize, shared } = feedForward;
  const chosen = plan.experts.map((e, i) => ({
    ...{ weights: experts[e]!, units: intermediateSize, scale: plan.scales[i]! },
  }));
  const both =
    shared === null
      ? []
      : [{ weights: shared.mlp.weights, units: shared.mlp.intermediateSize, scale: plan.sharedScale ?? 1 }];
  return [...chosen, ...both];
}

function mlpTensors(
  checkpoint: Checkpoint,
  layer: string,
  parts: readonly Part[],
  { fill, hiddenSize, intermediateSize }: { fill: number; hiddenSize: number; intermediateSize: number },
): TensorSource[] {
  const views = parts.map(({ weights }) => projectionsOf(weights, layer));
  const dtype = views[0]!.gateProj.dtype as WritableFloat;
  const zeros: ByteSource[] =
    fill === 0 ? [] : [bytes((fill * hiddenSize * dtypeBits[dtype]) / 8, (length) => new Uint8Array(length))];
  const stacked = (name: "gateProj" | "upProj", stored: string): TensorSource => ({
    ...{ name: `${layer}.mlp.${stored}.weight`, dtype, shape: [intermediateSize, hiddenSize] },
    parts: [...views.map((view) => copyOf(checkpoint, view[name], dtype)), ...zeros],
  });
  const down = tensorFromBytes(
    { name: `${layer}.mlp.down_proj.weight`, dtype, shape: [hiddenSize, intermediateSize] },
    async () => {
      const joined = new Float32Array(hiddenSize * intermediateSize);
      let first = 0;
      for (const [i, { units, scale }] of parts.entries()) {
        const view = views[i]!.downProj;
        const stored = await readFloat32(checkpoint.tensors.get(view.tensor)!, {
          offset: view.offset,
          count: elementCount(view.shape),
        });
        for (let row = 0; row < hiddenSize; row++)
          for (let u = 0; u < units; u++) joined[row * intermediateSize + first + u] = scale * stored[row * units + u]!;
        first += units;
      }
      return encodeFloats(joined, dtype);
    },
  );
  return [stacked("gateProj", "gate_proj"), stacked("upProj", "up_proj"), down];
}

/** The three matrices [out, in] of a network. @throws RerouteError model/unsupported-option */
function projectionsOf({ gateUp, downProj, constant }: ExpertWeights, layer: string) {
  const refuse = (what: string) =>
    new RerouteError(
      "model/unsupported-option",
      `A dense student cannot be built from ${layer}: ${what}; use a checkpoint in BF16 whose experts are whole`,
    );
  if (constant !== undefined) throw refuse("an expert was replaced by a constant");
  if (gateUp.kind === "joined") throw refuse("gate and up projections are stored as one");
  const found = { gateProj: gateUp.gateProj, upProj: gateUp.upProj, downProj };
  for (const { weight, bias, layout } of Object.values(found)) {
    if (weight.quantisation !== undefined) throw refuse(`${weight.tensor} is stored quantised or factored`);
    if (bias !== null) throw refuse(`${weight.tensor} has a bias, which its dense sibling has not`);
    if (layout !== "out-in") throw refuse(`${weight.tensor} is stored transposed`);
  }
  return { gateProj: found.gateProj.weight, upProj: found.upProj.weight, downProj: found.downProj.weight };
}

/** The bytes of a view, as they are where the dtype is the tensor's. */
function copyOf(checkpoint: Checkpoint, view: WeightView, dtype: WritableFloat): ByteSource {
  const entry = checkpoint.tensors.get(view.tensor)!;
  const count = elementCount(view.shape);
  if (view.dtype === dtype) {
    const bytesEach = dtypeBits[dtype] / 8;
    return { kind: "copy", entry, byteOffset: view.offset * bytesEach, byteLength: count * bytesEach };
  }
  return bytes((count * dtypeBits[dtype]) / 8, async () =>
    encodeFloats(await readFloat32(entry, { offset: view.offset, count }), dtype),
  );
}

function bytes(byteLength: number, make: (byteLength: number) => Uint8Array | Promise<Uint8Array>): ByteSource {
  return { kind: "bytes", byteLength, data: () => make(byteLength) };
}

/** "model.layers.3": every tensor of a layer begins so. */
function layerName({ attention, index }: LayerDescription): string {
  const [first] = allViewsIn(attention);
  const found = /^(.*?layers\.\d+)\./.exec(first?.tensor ?? "")?.[1];
  if (found === undefined) throw new Error(`layer ${index} has no attention`);
  return found;
}

/** config.json of the student; of a sibling, what its class says otherwise where the teacher's is silent is written out. */
function siblingConfig(
  config: Checkpoint["config"],
  { head, finalNorm, layers, ...description }: ModelDescription,
  sibling: Sibling,
  intermediateSize: number,
): { [key: string]: unknown } {
  if (sibling.kind === "own family")
    return { ...config, intermediate_size: intermediateSize, ...sibling.says(layers.length, config) };
  const { modelType, architecture, drops, adds } = sibling;
  const { attention } = layers[0]!;
  if (attention.kind !== "grouped-query") throw new Error("siblings have grouped-query attention");
  const rotary = config["rope_parameters"] as { rope_theta?: unknown } | null | undefined;
  const said = config["rope_theta"] ?? rotary?.rope_theta;
  const kept = Object.entries(config).filter(([key]) => !drops.includes(key));
  return {
    ...Object.fromEntries(kept),
    architectures: [architecture],
    model_type: modelType,
    intermediate_size: intermediateSize,
    vocab_size: description.vocabSize,
    hidden_size: description.hiddenSize,
    num_hidden_layers: layers.length,
    num_attention_heads: attention.numHeads,
    num_key_value_heads: attention.numKeyValueHeads,
    head_dim: attention.headDim,
    max_position_embeddings: description.maxPositionEmbeddings,
    rms_norm_eps: finalNorm.epsilon,
    tie_word_embeddings: head.tied,
    ...(said === undefined && attention.rotary !== null ? { rope_theta: attention.rotary.theta } : {}),
    ...adds,
    ...(modelType === "mistral" ? { sliding_window: config["sliding_window"] ?? null } : {}),
  };
}
