import { RerouteError } from "../../../protocol/errors";
import type { GgufTensor } from "../../gguf/header";
import { openGguf } from "../../gguf/header";
import { quote } from "../../checkpoint/quote";
import { withShardFile } from "../../checkpoint/shardFile";
import { invalidTrace, maxTraceExperts, type TraceCounts, type TraceLayer } from "./traceCounts";

/**
 * An importance matrix of llama.cpp in its GGUF form (`llama-imatrix`, since mid-2025): for every matrix product over
 * experts a tensor `<weight>.counts` F32 [experts, 1] with the tokens routed to each, such as
 * `blk.3.ffn_down_exps.weight.counts`; for others one count, of which that of the router (`ffn_gate_inp`) is the layer's
 * tokens. Source: `IMatrixCollector::collect_imatrix` and `save_imatrix` in tools/imatrix/imatrix.cpp of ggml-org/llama.cpp.
 *
 * @throws RerouteError trace/invalid; codes of openGguf
 */
export async function countImatrix(file: string): Promise<TraceCounts> {
  const { metadata, tensors } = await openGguf(file);
  if (metadata.get("general.type") !== "imatrix") {
    throw invalidTrace(
      `${quote(file)} says general.type = ${JSON.stringify(metadata.get("general.type") ?? null)}, an importance matrix says "imatrix"`,
    );
  }
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const layers: TraceLayer[] = [];
  for (const number of blocksOf(tensors)) {
    const part = ["down", "up", "gate", "gate_up"].find((name) => byName.has(countsName(number, `ffn_${name}_exps`)));
    if (part === undefined) continue;
    const frequency = await readCounts(byName.get(countsName(number, `ffn_${part}_exps`))!);
    const router = byName.get(countsName(number, "ffn_gate_inp"));
    const [tokens = null] = router ? await readCounts(router) : [];
    layers.push({ number, frequency, tokens });
  }
  if (layers.length > 0) return { layers, numbering: "decoder", hasAllExperts: true };
  throw invalidTrace(`${quote(file)} holds no counts of experts; was it made from a Mixture-of-Experts model?`);
}

/**
 * Whether bytes are the form of importance matrices before that (imatrix.dat): number of entries, then for each the
 * length of a name and the name. It keeps no counts of experts, as `load_imatrix_legacy` says.
 */
export function isLegacyImatrix(bytes: Uint8Array): boolean {
  if (bytes.length < 12) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [entries, nameLength] = [view.getInt32(0, true), view.getInt32(4, true)];
  if (entries < 1 || entries > 1_000_000 || nameLength < 1 || nameLength > 256) return false;
  const name = Buffer.from(bytes.subarray(8, 8 + nameLength)).toString("latin1");
  return /^(?:blk\.\d+\.|output|token_embd)[\w.]*$/.test(name);
}

/** Why such a file cannot be imported, and what can. */
export function legacyImatrixError(file: string): RerouteError {
  return invalidTrace(
    `${quote(file)} is an importance matrix of the old form, which keeps activations divided by the counts of experts, not the ` +
      `counts; make it again with llama-imatrix --output-format gguf`,
  );
}

function countsName(block: number, tensor: string): string {
  return `blk.${block}.${tensor}.weight.counts`;
}

function blocksOf(tensors: readonly GgufTensor[]): number[] {
  const numbers = tensors.flatMap(({ name }) => {
    const found = /^blk\.(\d{1,6})\./.exec(name)?.[1];
    return found === undefined ? [] : [Number(found)];
  });
  return [...new Set(numbers)].sort((a, b) => a - b);
}

async function readCounts(tensor: GgufTensor): Promise<Float64Array> {
  const { name, type, byteLength, byteOffset, shard } = tensor;
  if (type !== "F32" || byteLength > 4 * maxTraceExperts) {
    throw invalidTrace(
      `${quote(name)} in ${quote(shard.name)} is ${type} of ${byteLength} bytes, counts are F32 for up to ${maxTraceExperts} experts`,
    );
  }
  const bytes = await withShardFile(shard, (read) => read(byteOffset, byteLength));
  const counts = Float64Array.from(new Float32Array(new Uint8Array(bytes).buffer), Math.round);
  if (counts.every((count) => Number.isSafeInteger(count) && count >= 0)) return counts;
  throw invalidTrace(
    `${quote(name)} in ${quote(shard.name)} holds what is no count: ${counts.join(", ").slice(0, 80)}`,
  );
}
