import { byteLengthOf } from "../tensor/dtype";
import { inFileOrder, type TensorLayout } from "./headerFormat";

export interface PlannedShard<T extends TensorLayout> {
  name: string;
  /** In file order. */
  tensors: T[];
}

/**
 * Distributes tensors over files of at most `maxShardBytes` of data, in the given order; a larger tensor gets a file of
 * its own. Names are those of transformers: one file is `model.safetensors`, several are `model-00001-of-0000N.safetensors`.
 */
export function planShards<T extends TensorLayout>(tensors: readonly T[], maxShardBytes: number): PlannedShard<T>[] {
  const groups: T[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const length = byteLengthOf(tensor.dtype, tensor.shape);
    if (bytes > 0 && bytes + length > maxShardBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(tensor);
    bytes += length;
  }
  return groups.map((group, i) => ({ name: shardName(i, groups.length), tensors: inFileOrder(group) }));
}

export const indexName = "model.safetensors.index.json";

/** True for any name that `planShards` gives out. */
export function isShardName(name: string): boolean {
  return /^model(-\d{5,}-of-\d{5,})?\.safetensors$/.test(name);
}

/** The index, byte for byte as transformers writes it; null for a single file, which needs none. */
export function formatIndex(shards: PlannedShard<TensorLayout>[]): string | null {
  if (shards.length === 1) return null;
  const all = shards.flatMap(({ name, tensors }) => tensors.map((tensor) => ({ ...tensor, shard: name })));
  const total_size = all.reduce((sum, { dtype, shape }) => sum + byteLengthOf(dtype, shape), 0);
  const lines = all
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, shard }) => `    ${JSON.stringify(name)}: ${JSON.stringify(shard)}`);
  return `{\n  "metadata": {\n    "total_size": ${total_size}\n  },\n  "weight_map": {\n${lines.join(",\n")}\n  }\n}\n`;
}

function shardName(index: number, count: number): string {
  const number = (n: number) => String(n).padStart(5, "0");
  return count === 1 ? "model.safetensors" : `model-${number(index + 1)}-of-${number(count)}.safetensors`;
}
