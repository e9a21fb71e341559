import type { Checkpoint } from "../checkpoint/checkpoint";
import { BlockWeights } from "../graph/blocks/weights";
import { GraphBuilder } from "../graph/builder";
import type { Graph, Value } from "../graph/graph";
import type { ModelDescription } from "../model/description";

/**
 * ids int32 [T] -> hidden [T, H]. Rows are gathered before they are cast, so the table stays mapped bytes.
 * @param keepsFloat32 for sessions that keep f32 copies of weights: the table is one
 */
export function embeddingGraph(checkpoint: Checkpoint, { embedding }: ModelDescription, keepsFloat32 = false): Graph {
  const builder = new GraphBuilder();
  const ids = builder.input("ids", ["T"], "int32");
  const table = new BlockWeights(builder, checkpoint).stored(embedding.weight);
  const widen = (value: Value) => builder.cast(value, builder.floatType);
  const rows = keepsFloat32 ? builder.gather(widen(table), ids) : widen(builder.gather(table, ids));
  return builder.build({ hidden: builder.scale(rows, embedding.multiplier) });
}

/** As embeddingGraph, from a table in memory [V, H]: what trains is not read from the checkpoint. */
export function embedRows(table: Float32Array, ids: Int32Array, width: number, multiplier: number): Float32Array {
  const rows = new Float32Array(ids.length * width);
  for (let token = 0; token < ids.length; token++) {
    const from = ids[token]! * width;
    for (let i = 0; i < width; i++) rows[token * width + i] = multiplier * table[from + i]!;
  }
  return rows;
}

/** Adds the gradient of embedded rows to the table's: row v gets the sum over the tokens with id v. */
export function addEmbeddingGradient(
  sum: Float32Array,
  ids: Int32Array,
  dRows: Float32Array,
  width: number,
  multiplier: number,
): void {
  for (let token = 0; token < ids.length; token++) {
    const to = ids[token]! * width;
    for (let i = 0; i < width; i++) sum[to + i]! += multiplier * dRows[token * width + i]!;
  }
}
