import type { GgufFileType } from "../../protocol/gguf";
import type { GgufWeightType } from "../weights/ggufBlocks";
import { ggufBlock } from "../weights/ggufBlocks";
import type {
  ExpertWeights,
  LinearDescription,
  MlpDescription,
  NormDescription,
  WeightView,
} from "../model/description";
import type { ExportableLayer, ExportableModel } from "./refuseOthers";

/** One matrix [rows, columns] or vector of a checkpoint, and which of its rows in which order. */
export interface TensorPart {
  view: WeightView;
  /** How the stored matrix lies. */
  layout: LinearDescription["layout"];
  /** Of gate and up in one projection: which. */
  half?: { order: "interleaved" | "halves"; which: 0 | 1 };
  /** Rows of each head by rotated pairs, for so many heads. */
  pairedHeads?: number;
  /** 1 + weight (norms that store the difference). */
  plusOne?: true;
}

export interface ExportedTensor {
  name: string;
  type: GgufWeightType;
  /** Row-major, without the experts' axis of `parts`. */
  shape: readonly number[];
  /** One, or one an expert. */
  parts: readonly TensorPart[];
  stacked: boolean;
}

/**
 * The tensors of a GGUF file, in order. Routed experts get the type asked for, all other matrices F16 or Q8_0; routers, norms
 * and biases stay F32. Rows that a type's blocks of 32 do not divide are F16, as llama-quantize falls back.
 */
export function exportedTensors(model: ExportableModel, fileType: GgufFileType): ExportedTensor[] {
  const { architecture, description, layers } = model;
  const types: Types = {
    expert: fileType === "f16" ? "F16" : fileType === "q8_0" ? "Q8_0" : fileType === "q4_0" ? "Q4_0" : "MXFP4",
    other: fileType === "f16" ? "F16" : "Q8_0",
  };
  const { embedding, head, finalNorm } = description;
  const embedded: LinearDescription = { weight: embedding.weight, bias: null, layout: "out-in" };
  return [
    matrix("token_embd.weight", types.other, embedded),
    norm("output_norm.weight", finalNorm),
    ...(head.tied ? [] : [matrix("output.weight", types.other, { ...embedded, weight: head.weight })]),
    ...layers.flatMap((layer) => layerTensors(layer, architecture.feedForwardNorm, rotatedPairs(model), types)),
  ];
}

interface Types {
  expert: GgufWeightType;
  other: GgufWeightType;
}

/** Whether rows of queries and keys change places: from halves of a head to pairs beside each other. */
function rotatedPairs({ architecture, attention }: ExportableModel): boolean {
  return architecture.pairing === "interleaved" && attention.rotary!.pairing === "half";
}

function layerTensors(
  layer: ExportableLayer,
  feedForwardNorm: string,
  isPaired: boolean,
  types: Types,
): ExportedTensor[] {
  const { attention, feedForward, inputNorm, postAttentionNorm } = layer;
  const block = `blk.${layer.index}`;
  const heads = (count: number) => (isPaired ? count : undefined);
  const linear = (name: string, of: LinearDescription, pairedHeads?: number) => [
    matrix(`${block}.${name}.weight`, types.other, of, pairedHeads),
    ...(of.bias === null ? [] : [vector(`${block}.${name}.bias`, of.bias, pairedHeads)]),
  ];
  const tensors = [
    norm(`${block}.attn_norm.weight`, inputNorm!),
    ...linear("attn_q", attention.query, heads(attention.numHeads)),
    ...linear("attn_k", attention.key, heads(attention.numKeyValueHeads)),
    ...linear("attn_v", attention.value as LinearDescription),
    ...linear("attn_output", attention.output),
    ...(attention.queryNorm ? [norm(`${block}.attn_q_norm.weight`, attention.queryNorm)] : []),
    ...(attention.keyNorm ? [norm(`${block}.attn_k_norm.weight`, attention.keyNorm)] : []),
    norm(`${block}.${feedForwardNorm}.weight`, postAttentionNorm!),
  ];
  if (feedForward.kind === "mlp") return [...tensors, ...mlpTensors(block, "", feedForward, types.other)];
  const { router, experts, shared } = feedForward;
  tensors.push(vector(`${block}.ffn_gate_inp.weight`, router.weight));
  if (router.correctionBias) tensors.push(vector(`${block}.exp_probs_b.bias`, router.correctionBias));
  for (const projection of ["gate", "up", "down"] as const) {
    const parts = experts.map((expert) => projectionPart(expert, projection));
    tensors.push(stack(`${block}.ffn_${projection}_exps.weight`, types.expert, parts));
  }
  if (shared) {
    tensors.push(...mlpTensors(block, "_shexp", shared.mlp, types.other));
    if (shared.gate) {
      const { weight } = shared.gate;
      const width = weight.shape.reduce((product, size) => product * size, 1);
      tensors.push(vector(`${block}.ffn_gate_inp_shexp.weight`, { ...weight, shape: [width] }));
    }
  }
  return tensors;
}

function mlpTensors(
  block: string,
  suffix: string,
  { weights }: MlpDescription,
  type: GgufWeightType,
): ExportedTensor[] {
  return (["gate", "up", "down"] as const).map((projection) => ({
    ...stack(`${block}.ffn_${projection}${suffix}.weight`, type, [projectionPart(weights, projection)]),
    stacked: false,
  }));
}

function projectionPart({ gateUp, downProj }: ExpertWeights, projection: "gate" | "up" | "down"): TensorPart {
  if (projection === "down") return partOf(downProj);
  if (gateUp.kind === "separate") return partOf(projection === "gate" ? gateUp.gateProj : gateUp.upProj);
  return { ...partOf(gateUp.projection), half: { order: gateUp.order, which: projection === "gate" ? 0 : 1 } };
}

function partOf({ weight, layout }: LinearDescription): TensorPart {
  return { view: weight, layout };
}

function matrix(name: string, type: GgufWeightType, of: LinearDescription, pairedHeads?: number): ExportedTensor {
  const part = { ...partOf(of), ...(pairedHeads === undefined ? {} : { pairedHeads }) };
  return { ...stack(name, type, [part]), stacked: false };
}

function stack(name: string, type: GgufWeightType, parts: TensorPart[]): ExportedTensor {
  const shape = shapeOf(parts[0]!);
  return { name, type: shape[1] % ggufBlock === 0 || type === "F16" ? type : "F16", shape, parts, stacked: true };
}

/** [rows, columns] of what a part gives. */
function shapeOf({ view, layout, half }: TensorPart): [number, number] {
  const [a, b] = view.shape as [number, number];
  const [rows, columns] = layout === "out-in" ? [a, b] : [b, a];
  return [half ? rows / 2 : rows, columns];
}

function norm(name: string, { weight, plusOne }: NormDescription): ExportedTensor {
  const tensor = vector(name, weight!);
  return plusOne ? { ...tensor, parts: [{ ...tensor.parts[0]!, plusOne }] } : tensor;
}

/** What stays F32: vectors, and routers. */
function vector(name: string, view: WeightView, pairedHeads?: number): ExportedTensor {
  const part: TensorPart = { view, layout: "out-in", ...(pairedHeads === undefined ? {} : { pairedHeads }) };
  return { name, type: "F32", shape: view.shape, parts: [part], stacked: false };
}
