import type { GgufFileType } from "../../protocol/gguf";
import type { GgufWeightType } from "../weights/ggufBlocks";
import { ggufBlock } from "../weights/ggufBlocks";
import type {
  ExpertWeights,
  GroupedQueryAttention,
  LatentAttention,
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
  /** Of each head's rows: so many from one on, each head's matrix turned or not. */
  ofHeads?: { count: number; from: number; rows: number; isTurned: boolean };
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
  const tensors = [
    norm(`${block}.attn_norm.weight`, inputNorm!),
    ...(attention.kind === "latent"
      ? latentTensors(block, attention, types.other)
      : groupedQueryTensors(block, attention, isPaired, types.other)),
    norm(`${block}.${feedForwardNorm}.weight`, postAttentionNorm!),
  ];
  if (feedForward.kind === "mlp") return [...tensors, ...mlpTensors(block, "", feedForward, types.other)];
  const { router, experts, shared } = feedForward;
  tensors.push(vector(`${block}.ffn_gate_inp.weight`, router.weight));
  if (router.bias) tensors.push(vector(`${block}.ffn_gate_inp.bias`, router.bias));
  if (router.correctionBias) tensors.push(vector(`${block}.exp_probs_b.bias`, router.correctionBias));
  for (const projection of ["gate", "up", "down"] as const) {
    const parts = experts.map((expert) => projectionPart(expert, projection));
    tensors.push(stack(`${block}.ffn_${projection}_exps.weight`, types.expert, parts));
    tensors.push(...expertBiases(`${block}.ffn_${projection}_exps.bias`, experts, projection));
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

function groupedQueryTensors(
  block: string,
  attention: GroupedQueryAttention,
  isPaired: boolean,
  type: GgufWeightType,
): ExportedTensor[] {
  const { query, key, value, output, queryNorm, keyNorm, sinks } = attention;
  const heads = (count: number) => (isPaired ? count : undefined);
  return [
    ...linear(`${block}.attn_q`, type, query, heads(attention.numHeads)),
    ...linear(`${block}.attn_k`, type, key, heads(attention.numKeyValueHeads)),
    ...linear(`${block}.attn_v`, type, value as LinearDescription),
    ...linear(`${block}.attn_output`, type, output),
    ...(queryNorm ? [norm(`${block}.attn_q_norm.weight`, queryNorm)] : []),
    ...(keyNorm ? [norm(`${block}.attn_k_norm.weight`, keyNorm)] : []),
    ...(sinks ? [vector(`${block}.attn_sinks.weight`, sinks)] : []),
  ];
}

/**
 * Keys and values are made from the compressed ones by one projection [heads * (nope + value), rank], of which llama.cpp takes each
 * head's keys turned [heads, rank, nope], to apply them to queries, and its values [heads, value, rank], to apply them to what was
 * attended to.
 */
function latentTensors(block: string, attention: LatentAttention, type: GgufWeightType): ExportedTensor[] {
  const { query, keyValueDown, keyValueNorm, keyValueUp, output, numHeads, qkNopeHeadDim, vHeadDim, kvLoraRank } =
    attention;
  const ofHeads = (name: string, from: number, rows: number, isTurned: boolean): ExportedTensor => {
    const shape = isTurned ? [numHeads, kvLoraRank, rows] : [numHeads, rows, kvLoraRank];
    const parts = [{ ...partOf(keyValueUp), ofHeads: { count: numHeads, from, rows, isTurned } }];
    return { name: `${block}.${name}.weight`, type: fitting(type, shape), shape, parts, stacked: false };
  };
  return [
    ...("down" in query
      ? [
          ...linear(`${block}.attn_q_a`, type, query.down),
          norm(`${block}.attn_q_a_norm.weight`, query.norm),
          ...linear(`${block}.attn_q_b`, type, query.up),
        ]
      : linear(`${block}.attn_q`, type, query)),
    ...linear(`${block}.attn_kv_a_mqa`, type, keyValueDown),
    norm(`${block}.attn_kv_a_norm.weight`, keyValueNorm),
    ofHeads("attn_k_b", 0, qkNopeHeadDim, true),
    ofHeads("attn_v_b", qkNopeHeadDim, vHeadDim, false),
    ...linear(`${block}.attn_output`, type, output),
  ];
}

/** [experts, rows] of one projection, where experts have biases. */
function expertBiases(
  name: string,
  experts: readonly ExpertWeights[],
  projection: "gate" | "up" | "down",
): ExportedTensor[] {
  const parts = experts.flatMap(({ gateUp, downProj }): TensorPart[] => {
    const joined = projection !== "down" && gateUp.kind === "joined" ? gateUp : null;
    const apart =
      gateUp.kind === "separate" ? { gate: gateUp.gateProj, up: gateUp.upProj }[projection as "gate"] : null;
    const { bias } = joined?.projection ?? (projection === "down" ? downProj : apart!);
    const half = joined && { order: joined.order, which: projection === "gate" ? (0 as const) : (1 as const) };
    return bias === null ? [] : [{ view: bias, layout: "out-in", ...(half ? { half } : {}) }];
  });
  const first = parts[0];
  if (first === undefined) return [];
  const rows = first.view.shape[0]! / (first.half ? 2 : 1);
  return [{ name, type: "F32", shape: [rows], parts, stacked: true }];
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

function linear(name: string, type: GgufWeightType, of: LinearDescription, pairedHeads?: number): ExportedTensor[] {
  return [
    matrix(`${name}.weight`, type, of, pairedHeads),
    ...(of.bias === null ? [] : [vector(`${name}.bias`, of.bias, pairedHeads)]),
  ];
}

function matrix(name: string, type: GgufWeightType, of: LinearDescription, pairedHeads?: number): ExportedTensor {
  const part = { ...partOf(of), ...(pairedHeads === undefined ? {} : { pairedHeads }) };
  return { ...stack(name, type, [part]), stacked: false };
}

function stack(name: string, type: GgufWeightType, parts: TensorPart[]): ExportedTensor {
  const shape = shapeOf(parts[0]!);
  return { name, type: fitting(type, shape), shape, parts, stacked: true };
}

/** Blocks of rows that they divide. */
function fitting(type: GgufWeightType, shape: readonly number[]): GgufWeightType {
  return shape.at(-1)! % ggufBlock === 0 ? type : "F16";
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
