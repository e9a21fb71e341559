import type { MemoryTensor, SafetensorsFile } from "../checkpoint/safetensorsFile";
import type { LayerShape } from "./layerStatistics";
import { topTokens, windowTokens, type ProfileSamples, type SampledText, type TokenSamples } from "./samples";

/** Tensors `layers.<layer>.<name>` with their axes: R router rows, N top tokens, T tokens of the text, k experts a token. */
const axes = {
  topPositions: ["I32", "R", "N"],
  topWeights: ["F32", "R", "N"],
  topDomains: ["I32", "R", "N"],
  tokenRows: ["I32", "T", "k"],
  tokenWeights: ["F32", "T", "k"],
  tokenEntropy: ["F32", "T"],
} as const satisfies Record<keyof TokenSamples, readonly string[]>;
export const sampleFields = Object.keys(axes) as (keyof TokenSamples)[];

/** Samples as tensors of routing-statistics.safetensors, and what its metadata says of them. */
export function sampleTensors(
  { layers, text }: ProfileSamples,
  shapes: readonly LayerShape[],
): { tensors: Map<string, MemoryTensor>; metadata: Record<string, string> } {
  const tensors = new Map<string, MemoryTensor>();
  for (const shape of shapes) {
    const samples = layers.get(shape.layer);
    if (!samples) continue;
    for (const field of sampleFields)
      tensors.set(`layers.${shape.layer}.${field}`, {
        dtype: axes[field][0],
        shape: dimensions(field, shape, samples.tokenEntropy.length),
        data: samples[field],
      });
    const windows = text?.windows.get(shape.layer);
    if (windows) {
      const rows = windows.length / topTokens / windowTokens;
      tensors.set(`layers.${shape.layer}.topWindows`, {
        dtype: "I32",
        shape: [rows, topTokens, windowTokens],
        data: windows,
      });
    }
  }
  if (text === null) return { tensors, metadata: {} };
  const pieces = new TextEncoder().encode(JSON.stringify(text.pieces));
  tensors.set("sample.tokenIds", { dtype: "I32", shape: [text.tokenIds.length], data: text.tokenIds });
  tensors.set("sample.pieces", { dtype: "U8", shape: [pieces.length], data: pieces });
  return { tensors, metadata: { sampleSequenceLength: String(text.sequenceLength) } };
}

/** The samples of a file; undefined where it has none, or none that fit its layers. */
export function samplesOf(
  { tensors, metadata }: SafetensorsFile,
  shapes: readonly LayerShape[],
): ProfileSamples | undefined {
  const layers = new Map<number, TokenSamples>();
  const windows = new Map<number, Int32Array>();
  for (const shape of shapes) {
    const tokens = tensors.get(`layers.${shape.layer}.tokenEntropy`)?.shape[0];
    if (tokens === undefined) return undefined;
    const found: Partial<Record<keyof TokenSamples, Int32Array | Float32Array>> = {};
    for (const field of sampleFields) {
      const tensor = tensors.get(`layers.${shape.layer}.${field}`);
      const dtype = axes[field][0];
      const expected = dimensions(field, shape, tokens);
      if (tensor?.dtype !== dtype || tensor.shape.join() !== expected.join()) return undefined;
      found[field] = dtype === "I32" ? int32(tensor.data) : float32(tensor.data);
    }
    layers.set(shape.layer, found as unknown as TokenSamples);
    const around = tensors.get(`layers.${shape.layer}.topWindows`);
    if (around?.dtype === "I32") windows.set(shape.layer, int32(around.data));
  }
  if (layers.size === 0) return undefined;
  return { layers, text: textOf({ tensors, metadata }, windows) };
}

function textOf({ tensors, metadata }: SafetensorsFile, windows: Map<number, Int32Array>): SampledText | null {
  const ids = tensors.get("sample.tokenIds");
  const pieces = tensors.get("sample.pieces");
  const sequenceLength = Number(metadata["sampleSequenceLength"]);
  if (ids?.dtype !== "I32" || !pieces || !(sequenceLength >= 1)) return null;
  try {
    const parsed = JSON.parse(new TextDecoder().decode(pieces.data)) as unknown;
    const entries = Object.entries(parsed ?? {}).filter(([, text]) => typeof text === "string");
    return {
      sequenceLength,
      tokenIds: int32(ids.data),
      windows,
      pieces: Object.fromEntries(entries),
    };
  } catch {
    return null;
  }
}

function dimensions(
  field: keyof TokenSamples,
  { expertOfRow, numExperts, numExpertsPerToken }: LayerShape,
  tokens: number,
): number[] {
  const sizes = { R: expertOfRow?.length ?? numExperts, N: topTokens, T: tokens, k: numExpertsPerToken };
  return axes[field].slice(1).map((axis) => sizes[axis as keyof typeof sizes]);
}

/** Copies: a tensor's bytes may begin anywhere in the file's buffer. */
function int32(bytes: Uint8Array): Int32Array {
  return new Int32Array(new Uint8Array(bytes).buffer);
}

function float32(bytes: Uint8Array): Float32Array {
  return new Float32Array(new Uint8Array(bytes).buffer);
}
