import type { Checkpoint } from "../checkpoint/checkpoint";
import { BlockWeights, storedWeight } from "../graph/blocks/weights";
import { GraphBuilder } from "../graph/builder";
import type { Graph } from "../graph/graph";
import type { ModelDescription } from "../model/description";

/** ids int32 [T] -> hidden [T, H]. Rows are gathered before they are cast, so the table stays mapped bytes. */
export function embeddingGraph(checkpoint: Checkpoint, { embedding }: ModelDescription): Graph {
  const builder = new GraphBuilder();
  const ids = builder.input("ids", ["T"], "int32");
  const table = storedWeight(new BlockWeights(builder, checkpoint), embedding.weight);
  const rows = builder.cast(builder.gather(table, ids), builder.floatType);
  return builder.build({ hidden: builder.scale(rows, embedding.multiplier) });
}
